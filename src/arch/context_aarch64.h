/* The AArch64 switch: inline, label and jump; the why is in context_x86_64.h.
 *
 * The compiler saves what is alive around the one switch in sched, because it is told that every register is clobbered:
 * the link register (its function so becomes one that saves it, though it may call nothing), x19 to x28, and all of
 * v0 to v31, not only the low halves of v8 to v15 that a call would keep. We keep three words: where to go on, stack
 * pointer, frame pointer. x29 is never named as clobbered, as compilers refuse that or overlook it where it is the
 * frame pointer, and without one it may hold a value; so it is exchanged by hand. x18 is a scratch register in Linux's
 * ABI, and clobbered. In code compiled with -ffixed-x18 it points to a shadow call stack, which fibers do not have one
 * each of: clang warns right here. Scalable vectors share their names with v0 to v31; predicates are named when the
 * compiler may use them.
 *
 * from, to and word are bound to x0 to x2, so that word lands where an entry function expects its argument. The stack
 * pointer is multiple of 16 at every instruction, as the machine checks. It goes through x10: stp cannot store it.
 *
 * The landing label begins with `bti j`, written as the hint that old assemblers know; the jump is through x9, for
 * which only that pad will do. Return addresses may be signed (PAC): the modifier is the stack pointer, which is the
 * fiber's own and the same when it returns, and the keys are the process's, so a fiber may return on another thread.
 * The three words themselves are not signed. */
#ifndef STEL_ARCH_CONTEXT_AARCH64_H
#define STEL_ARCH_CONTEXT_AARCH64_H

#include "arch/fp_aarch64.h"

typedef struct stel__context_exit stel__context_entry(void *word);
typedef struct stel__context {
    void *ip, *sp, *fp;
} stel__context;

/* Where its stack ends now, if it does not run. */
static inline const void *stel__context_stack_pointer(const stel__context *c) {
    return stel__load_relaxed((void *const _Atomic *)&c->sp);
}

/* context_aarch64.S: calls the entry whose address waits on the stack, with x0 as it comes, and goes on as it says; ends every
 * backtrace. */
extern void stel__context_start(void);

static inline void stel__context_make(stel__context *c, void *stack_top, stel__context_entry *entry) {
    uintptr_t *top = (uintptr_t *)((uintptr_t)stack_top & ~(uintptr_t)15);
    top[-2] = (uintptr_t)entry;
    c->ip = (void *)stel__context_start;
    c->sp = top - 2;
    c->fp = NULL;
}

#ifdef __ARM_FEATURE_SVE
#define STEL__CONTEXT_SVE                                                                                              \
    , "p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9", "p10", "p11", "p12", "p13", "p14", "p15"
#else
#define STEL__CONTEXT_SVE
#endif

__attribute__((always_inline)) static inline void *stel__context_switch(stel__context *from_context,
                                                                        stel__context *to_context, void *travelling) {
    register void *word __asm__("x0") = travelling;
    register stel__context *from __asm__("x1") = from_context;
    register stel__context *to __asm__("x2") = to_context;
    __asm__ volatile("adr x9, 1f\n\t"
                     "mov x10, sp\n\t"
                     "stp x9, x10, [%[from]]\n\t"
                     "str x29, [%[from], #16]\n\t"
                     "ldp x9, x10, [%[to]]\n\t"
                     "ldr x29, [%[to], #16]\n\t"
                     "mov sp, x10\n\t"
                     "br x9\n"
                     "1:\thint #36\n" /* bti j */
                     : "+r"(word), [from] "+r"(from), [to] "+r"(to)
                     :
                     : "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17",
                       "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x30", "memory",
                       "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13",
                       "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27",
                       "v28", "v29", "v30", "v31" STEL__CONTEXT_SVE);
    return word;
}

#endif
