/* The x86-64 switch: inline, label and jump.
 *
 * The compiler is told that every register but the stack and frame pointers is clobbered, so it saves just those that
 * are alive around the one place in sched that switches; we keep three words: where to go on, stack pointer, frame
 * pointer. Nothing is pushed, so a red zone below the stack pointer is safe, and no call or return is involved: the
 * CPU's return stack stays as deep as the frames above it, and every one of them returns as predicted. A switch that is
 * called and leaves by pop-and-jump leaves it one entry out of step, at 7-9 ns for each frame the resumed fiber then
 * returns through.
 *
 * The landing label begins with endbr64: it is reached by an indirect jump. The asm must exist once in its function, as
 * the label's address is taken: callers are noinline. CFI needs nothing: at the label the frame is as it was at the
 * jump, and an unwinder that starts from a context's (ip, sp, fp) finds what the compiler saved where it says. */
#ifndef STEL_ARCH_CONTEXT_X86_64_H
#define STEL_ARCH_CONTEXT_X86_64_H

#include "arch/fp_x86_64.h"

typedef struct stel__context_exit stel__context_entry(void *word);
typedef struct stel__context {
    void *ip, *sp, *fp;
} stel__context;

/* Where its stack ends now, if it does not run. */
static inline const void *stel__context_stack_pointer(const stel__context *c) {
    return stel__load_relaxed((void *const _Atomic *)&c->sp);
}

/* context_x86_64.S: calls the entry whose address waits on the stack, with rdi as it comes, and goes on as it says; ends every
 * backtrace. */
extern void stel__context_start(void);

static inline void stel__context_make(stel__context *c, void *stack_top, stel__context_entry *entry) {
    uintptr_t *top = (uintptr_t *)((uintptr_t)stack_top & ~(uintptr_t)15);
    top[-2] = (uintptr_t)entry;
    c->ip = (void *)stel__context_start;
    c->sp = top - 2;
    c->fp = NULL;
}

/* The registers that exist only with AVX-512: a compiler that may not use them does not know their names. */
#ifdef __AVX512F__
#define STEL__CONTEXT_AVX512                                                                                           \
    , "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27",      \
        "xmm28", "xmm29", "xmm30", "xmm31", "k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7"
#else
#define STEL__CONTEXT_AVX512
#endif

__attribute__((always_inline)) static inline void *stel__context_switch(stel__context *from, stel__context *to,
                                                                        void *word) {
    /* from and to are read before anything is clobbered; word stays in rdi all the way. */
    __asm__ volatile("leaq 1f(%%rip), %%rax\n\t"
                     "movq %%rax, 0(%[from])\n\t"
                     "movq %%rsp, 8(%[from])\n\t"
                     "movq %%rbp, 16(%[from])\n\t"
                     "movq 8(%[to]), %%rsp\n\t"
                     "movq 16(%[to]), %%rbp\n\t"
                     "jmpq *0(%[to])\n"
                     "1:\tendbr64\n"
                     : "+D"(word), [from] "+S"(from), [to] "+d"(to)
                     :
                     : "rax", "rbx", "rcx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc",
                       "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
                       "xmm12", "xmm13", "xmm14", "xmm15", "mm0", "mm1", "mm2", "mm3", "mm4", "mm5", "mm6", "mm7", "st",
                       "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)" STEL__CONTEXT_AVX512);
    return word;
}

#endif
