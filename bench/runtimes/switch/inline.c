/* Label and jump, written out at the bottom of the call chain itself: nothing is called at all. What is left is the
 * least that a switch can cost here; x86-64 only. */
#define VARIANT "inline"
#include <stdint.h>

typedef struct context {
    void *ip, *sp, *fp;
} context;

__attribute__((noreturn)) static void context_body(context *c);

/* Everything but stack and frame pointer changes; the compiler saves what it needs around it. A local label, so that
 * each inlined copy has its own. */
__attribute__((always_inline)) static inline void context_go(context *from, context *to) {
    __asm__ volatile("lea 9f(%%rip), %%rax\n\t"
                     "mov %%rax, (%[from])\n\t"
                     "mov %%rsp, 8(%[from])\n\t"
                     "mov %%rbp, 16(%[from])\n\t"
                     "mov 8(%[to]), %%rsp\n\t"
                     "mov 16(%[to]), %%rbp\n\t"
                     "jmp *(%[to])\n"
                     "9:\tendbr64\n"
                     : [from] "+S"(from), [to] "+D"(to)
                     :
                     : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc",
                       "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
                       "xmm12", "xmm13", "xmm14", "xmm15");
}

/* A context that runs for the first time arrives here with itself in rdi, where every switch leaves it. */
__attribute__((used)) static void entry(context *c) {
    context_body(c);
}

static void context_make(context *c, void *stack_top) {
    uintptr_t top = (uintptr_t)stack_top & ~(uintptr_t)15;
    c->ip = (void *)(uintptr_t)entry;
    c->sp = (void *)(top - 8); /* as after a call */
    c->fp = (void *)0;
}

#include "switch.h"
