/* Boost.Context's bare fcontext, as its users call it. */
#define VARIANT "fcontext"
#include <stddef.h>

typedef struct context {
    void *fcontext;
} context;

typedef struct transfer {
    void *fcontext;
    void *data;
} transfer;
extern transfer jump_fcontext(void *to, void *data);
extern void *make_fcontext(void *stack_top, size_t bytes, void (*entry)(transfer));

__attribute__((noreturn)) static void context_body(context *c);

/* What travels: who stopped and who goes on; the side that is resumed stores where the other one stopped. */
typedef struct pair {
    context *from, *to;
} pair;

static inline void context_go(context *from, context *to) {
    pair p = { from, to };
    transfer t = jump_fcontext(to->fcontext, &p);
    ((pair *)t.data)->from->fcontext = t.fcontext;
}

static void entry(transfer t) {
    pair *p = t.data;
    p->from->fcontext = t.fcontext;
    context_body(p->to);
}

static void context_make(context *c, void *stack_top) {
    c->fcontext = make_fcontext(stack_top, 0, entry);
}

#include "switch.h"
