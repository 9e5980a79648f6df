/* The portable switch: Boost.Context's fcontext, its assembly only (make_fcontext and jump_fcontext from the static
 * library; no C++ comes with them). The side that is resumed stores where the other one stopped. */
#ifndef STEL_ARCH_CONTEXT_FCONTEXT_H
#define STEL_ARCH_CONTEXT_FCONTEXT_H

typedef struct stel__context_exit stel__context_entry(void *word);
typedef struct stel__context {
    void *fcontext;
    stel__context_entry *entry;
    void *word; /* on its way to this context */
} stel__context;

static inline const void *stel__context_stack_pointer(const stel__context *c) {
    return stel__load_relaxed((void *const _Atomic *)&c->fcontext);
}

struct stel__fcontext_transfer {
    void *fcontext;
    void *data;
};
extern struct stel__fcontext_transfer jump_fcontext(void *to, void *data);
extern void *make_fcontext(void *stack_top, size_t bytes, void (*entry)(struct stel__fcontext_transfer));
extern void stel__fcontext_start(struct stel__fcontext_transfer t);

/* What travels: who stopped, so that the resumed side can store where, and who is resumed. */
struct stel__fcontext_pair {
    stel__context *from, *to;
};

static inline void stel__context_make(stel__context *c, void *stack_top, stel__context_entry *entry) {
    c->fcontext = make_fcontext(stack_top, 0, stel__fcontext_start);
    c->entry = entry;
}

__attribute__((always_inline)) static inline void *stel__context_switch(stel__context *from, stel__context *to,
                                                                        void *word) {
    struct stel__fcontext_pair pair = { from, to };
    to->word = word;
    struct stel__fcontext_transfer t = jump_fcontext(to->fcontext, &pair);
    struct stel__fcontext_pair *came = (struct stel__fcontext_pair *)t.data;
    came->from->fcontext = t.fcontext;
    return came->to->word;
}

/* fcontext itself keeps control words across every switch, but as a matter of its own: see leave_fp in sched. */
#if defined(__x86_64__)
#include "arch/fp_x86_64.h"
#elif defined(__aarch64__)
#include "arch/fp_aarch64.h"
#elif defined(__riscv) && __riscv_xlen == 64
#include "arch/fp_riscv64.h"
#else
static inline uint64_t stel__fp_save(void) {
    return 0;
}
static inline void stel__fp_load(uint64_t words) {
    (void)words;
}
#endif

#endif
