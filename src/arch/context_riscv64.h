/* The RISC-V switch (RV64 with or without F, D, C and V): inline, label and jump; the why is in context_x86_64.h.
 *
 * The compiler saves what is alive around the one switch in sched, because it is told that every register is clobbered:
 * the return address (its function so becomes one that saves it, though it may call nothing), s1 to s11, and all
 * floating point and vector registers that it may use. We keep three words: where to go on, stack pointer, s0. That is
 * the frame pointer where there is one, and then must not be named as clobbered; without one it may hold a value; so it
 * is exchanged by hand. gp and tp are not touched: the first is the program's, the second the thread's, and a fiber
 * that goes on elsewhere must find the new thread's there.
 *
 * from, to and word are bound to a0 to a2, so that word lands where an entry function expects its argument. The label's
 * address is taken by lla: relative to the program counter in every code model, and right after the linker's relaxation.
 *
 * The jump is through t2. Through ra or t0 the machine would take it for a return and pop its return stack; and of all
 * registers t2 alone needs no landing pad where those are checked (Zicfilp), as it stands for branches whose target the
 * program vouches for. */
#ifndef STEL_ARCH_CONTEXT_RISCV64_H
#define STEL_ARCH_CONTEXT_RISCV64_H

#include "arch/fp_riscv64.h"

typedef struct stel__context_exit stel__context_entry(void *word);
typedef struct stel__context {
    void *ip, *sp, *fp;
} stel__context;

/* Where its stack ends now, if it does not run. */
static inline const void *stel__context_stack_pointer(const stel__context *c) {
    return stel__load_relaxed((void *const _Atomic *)&c->sp);
}

/* context_riscv64.S: calls the entry whose address waits on the stack, with a0 as it comes, and goes on as it says; ends every
 * backtrace. */
extern void stel__context_start(void);

static inline void stel__context_make(stel__context *c, void *stack_top, stel__context_entry *entry) {
    uintptr_t *top = (uintptr_t *)((uintptr_t)stack_top & ~(uintptr_t)15);
    top[-2] = (uintptr_t)entry;
    c->ip = (void *)stel__context_start;
    c->sp = top - 2;
    c->fp = NULL;
}

#ifdef __riscv_flen
#define STEL__CONTEXT_FLOAT                                                                                            \
    , "ft0", "ft1", "ft2", "ft3", "ft4", "ft5", "ft6", "ft7", "ft8", "ft9", "ft10", "ft11", "fa0", "fa1", "fa2",       \
        "fa3", "fa4", "fa5", "fa6", "fa7", "fs0", "fs1", "fs2", "fs3", "fs4", "fs5", "fs6", "fs7", "fs8", "fs9",       \
        "fs10", "fs11"
#else
#define STEL__CONTEXT_FLOAT
#endif
/* gcc 12 knows the extension's name, but none of its registers: it cannot keep anything in them. */
#if defined(__riscv_vector) && (defined(__clang__) || __GNUC__ >= 13)
#define STEL__CONTEXT_VECTOR                                                                                           \
    , "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16",     \
        "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31"
#else
#define STEL__CONTEXT_VECTOR
#endif

__attribute__((always_inline)) static inline void *stel__context_switch(stel__context *from_context,
                                                                        stel__context *to_context, void *travelling) {
    register void *word __asm__("a0") = travelling;
    register stel__context *from __asm__("a1") = from_context;
    register stel__context *to __asm__("a2") = to_context;
    __asm__ volatile("lla t2, 1f\n\t"
                     "sd t2, 0(%[from])\n\t"
                     "sd sp, 8(%[from])\n\t"
                     "sd s0, 16(%[from])\n\t"
                     "ld t2, 0(%[to])\n\t"
                     "ld sp, 8(%[to])\n\t"
                     "ld s0, 16(%[to])\n\t"
                     "jr t2\n"
                     "1:\n"
                     : "+r"(word), [from] "+r"(from), [to] "+r"(to)
                     :
                     : "ra", "t0", "t1", "t2", "t3", "t4", "t5", "t6", "a3", "a4", "a5", "a6", "a7", "s1", "s2", "s3",
                       "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11",
                       "memory" STEL__CONTEXT_FLOAT STEL__CONTEXT_VECTOR);
    return word;
}

#endif
