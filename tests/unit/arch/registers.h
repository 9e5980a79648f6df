/* What test_context.c needs of each machine, in its own assembly.
 *
 *   SAVED                       how many 8-byte words the callee-saved registers are, integer and floating point
 *   fill_call_store             fills them all from in[], calls fn(arg), stores what they are then to out[]
 *   entry_with_stack_pointer    an entry function: goes on to entered(word, stack pointer as it came)
 *   STACK_POINTER_AT_ENTRY      what that is, modulo 16, at the first instruction of any function
 *   frame_of_caller             from one frame pointer to the next */
#ifndef REGISTERS_H
#define REGISTERS_H

#include <stdint.h>

void fill_call_store(const uint64_t *in, uint64_t *out, void (*fn)(void *), void *arg);
stel__context_exit entry_with_stack_pointer(void *word);
void entered(void *word, uintptr_t stack_pointer);

#define FUNCTION(name, text)                                                                                           \
    __asm__(".text\n"                                                                                                  \
            ".type " #name ", %function\n"                                                                             \
            ".globl " #name "\n"                                                                                       \
            ".p2align 4\n" #name ":\n" text ".size " #name ", . - " #name "\n")

#if defined(__x86_64__)

enum { SAVED = 6, STACK_POINTER_AT_ENTRY = 8 };

FUNCTION(fill_call_store, "endbr64\n"
                          "pushq %rbx\n pushq %rbp\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
                          "pushq %rsi\n"
                          "movq 0(%rdi), %rbx\n movq 8(%rdi), %rbp\n movq 16(%rdi), %r12\n"
                          "movq 24(%rdi), %r13\n movq 32(%rdi), %r14\n movq 40(%rdi), %r15\n"
                          "movq %rcx, %rdi\n"
                          "callq *%rdx\n"
                          "popq %rsi\n"
                          "movq %rbx, 0(%rsi)\n movq %rbp, 8(%rsi)\n movq %r12, 16(%rsi)\n"
                          "movq %r13, 24(%rsi)\n movq %r14, 32(%rsi)\n movq %r15, 40(%rsi)\n"
                          "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbp\n popq %rbx\n"
                          "ret\n");

FUNCTION(entry_with_stack_pointer, "endbr64\n"
                                   "movq %rsp, %rsi\n"
                                   "jmp entered\n");

#elif defined(__aarch64__)

enum { SAVED = 19, STACK_POINTER_AT_ENTRY = 0 };

FUNCTION(fill_call_store,
         "hint #34\n" /* bti c */
         "stp x29, x30, [sp, #-176]!\n"
         "stp x19, x20, [sp, #16]\n stp x21, x22, [sp, #32]\n stp x23, x24, [sp, #48]\n"
         "stp x25, x26, [sp, #64]\n stp x27, x28, [sp, #80]\n"
         "stp d8, d9, [sp, #96]\n stp d10, d11, [sp, #112]\n stp d12, d13, [sp, #128]\n stp d14, d15, [sp, #144]\n"
         "str x1, [sp, #160]\n"
         "ldp x19, x20, [x0, #0]\n ldp x21, x22, [x0, #16]\n ldp x23, x24, [x0, #32]\n"
         "ldp x25, x26, [x0, #48]\n ldp x27, x28, [x0, #64]\n ldr x29, [x0, #80]\n"
         "ldp d8, d9, [x0, #88]\n ldp d10, d11, [x0, #104]\n ldp d12, d13, [x0, #120]\n ldp d14, d15, [x0, #136]\n"
         "mov x0, x3\n"
         "blr x2\n"
         "ldr x1, [sp, #160]\n"
         "stp x19, x20, [x1, #0]\n stp x21, x22, [x1, #16]\n stp x23, x24, [x1, #32]\n"
         "stp x25, x26, [x1, #48]\n stp x27, x28, [x1, #64]\n str x29, [x1, #80]\n"
         "stp d8, d9, [x1, #88]\n stp d10, d11, [x1, #104]\n stp d12, d13, [x1, #120]\n stp d14, d15, [x1, #136]\n"
         "ldp d14, d15, [sp, #144]\n ldp d12, d13, [sp, #128]\n ldp d10, d11, [sp, #112]\n ldp d8, d9, [sp, #96]\n"
         "ldp x27, x28, [sp, #80]\n ldp x25, x26, [sp, #64]\n"
         "ldp x23, x24, [sp, #48]\n ldp x21, x22, [sp, #32]\n ldp x19, x20, [sp, #16]\n"
         "ldp x29, x30, [sp], #176\n"
         "ret\n");

FUNCTION(entry_with_stack_pointer, "hint #34\n"
                                   "mov x1, sp\n"
                                   "b entered\n");

#elif defined(__riscv) && __riscv_xlen == 64

enum { SAVED = 24, STACK_POINTER_AT_ENTRY = 0 };

/* clang-format off */
/* s0 ... s11 and fs0 ... fs11, stored to or loaded from words 0 ... 23 behind a register. */
#define EACH_SAVED(move, float_move, base)                                                                             \
    ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11\n"                                                                   \
    move " s\\i, 8 * \\i(" base ")\n"                                                                                   \
    float_move " fs\\i, 96 + 8 * \\i(" base ")\n"                                                                       \
    ".endr\n"

FUNCTION(fill_call_store,
         "addi sp, sp, -208\n"
         EACH_SAVED("sd", "fsd", "sp")
         "sd ra, 192(sp)\n"
         "sd a1, 200(sp)\n"
         EACH_SAVED("ld", "fld", "a0")
         "mv a0, a3\n"
         "jalr a2\n"
         "ld a1, 200(sp)\n"
         EACH_SAVED("sd", "fsd", "a1")
         "ld ra, 192(sp)\n"
         EACH_SAVED("ld", "fld", "sp")
         "addi sp, sp, 208\n"
         "ret\n");
/* clang-format on */

FUNCTION(entry_with_stack_pointer, "mv a1, sp\n"
                                   "tail entered\n");

#else
#error "test_context.c: what are this machine's callee-saved registers?"
#endif

static inline void **frame_of_caller(void **frame) {
#if defined(__riscv)
    return frame[-2];
#else
    return *frame;
#endif
}

#endif
