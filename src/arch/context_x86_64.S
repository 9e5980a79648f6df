/* Where a new context begins: the stack pointer is 16-byte aligned and at it waits the address of the entry function;
 * rdi holds the word that travelled with the switch. When the entry returns, rax is the context that goes on and rdx its
 * word. A backtrace ends here: the return address is declared undefined and the frame pointer is zero. */
        .text
        .globl  stel__context_start
        .hidden stel__context_start
        .type   stel__context_start, @function
        .p2align 4
stel__context_start:
        .cfi_startproc
        .cfi_undefined rip
        endbr64
        callq   *(%rsp)
        movq    %rdx, %rdi
        movq    8(%rax), %rsp
        movq    16(%rax), %rbp
        jmpq    *0(%rax)
        .cfi_endproc
        .size   stel__context_start, . - stel__context_start

        .section .note.GNU-stack, "", @progbits

/* Says that every indirect branch target here is an endbr64 (IBT) and that no return is unbalanced (SHSTK is left out:
 * a shadow stack of each fiber's own would be needed). */
        .section .note.gnu.property, "a"
        .p2align 3
        .long   4
        .long   16
        .long   5
        .asciz  "GNU"
        .long   0xc0000002
        .long   4
        .long   1
        .long   0
