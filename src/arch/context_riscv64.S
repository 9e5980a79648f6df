/* Where a new context begins: the stack pointer is a multiple of 16 and at it waits the address of the entry function;
 * a0 holds the word that travelled with the switch. When the entry returns, a0 is the context that goes on and a1 its
 * word. A backtrace ends here: the return address is declared undefined, and the frame pointer is zero, as the switch has
 * set it. The call and the jump are through t2 for the reason that the switch's jump is. */
        .text
        .globl  stel__context_start
        .hidden stel__context_start
        .type   stel__context_start, @function
        .p2align 4
stel__context_start:
        .cfi_startproc
        .cfi_undefined ra
        ld      t2, 0(sp)
        jalr    t2
        mv      a2, a0
        mv      a0, a1
        ld      t2, 0(a2)
        ld      sp, 8(a2)
        ld      s0, 16(a2)
        jr      t2
        .cfi_endproc
        .size   stel__context_start, . - stel__context_start

        .section .note.GNU-stack, "", @progbits
