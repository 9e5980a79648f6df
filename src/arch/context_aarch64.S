/* Where a new context begins: the stack pointer is a multiple of 16 and at it waits the address of the entry function;
 * x0 holds the word that travelled with the switch. When the entry returns, x0 is the context that goes on and x1 its
 * word. A backtrace ends here: the return address is declared undefined, and the frame pointer is zero, as the switch has set it. */
        .text
        .globl  stel__context_start
        .hidden stel__context_start
        .type   stel__context_start, %function
        .p2align 4
stel__context_start:
        .cfi_startproc
        .cfi_undefined x30
        hint    #36                     /* bti j: reached by a jump */
        ldr     x9, [sp]
        blr     x9
        mov     x2, x0
        mov     x0, x1
        ldp     x9, x10, [x2]
        ldr     x29, [x2, #16]
        mov     sp, x10
        br      x9
        .cfi_endproc
        .size   stel__context_start, . - stel__context_start

        .section .note.GNU-stack, "", %progbits

/* Says that every indirect branch target here has its landing pad (BTI), and that no return address lies in memory
 * without being signed (PAC): there is no return. The linker keeps the mark if all objects have it. */
        .section .note.gnu.property, "a"
        .p2align 3
        .long   4
        .long   16
        .long   5
        .asciz  "GNU"
        .long   0xc0000000
        .long   4
        .long   3
        .long   0
