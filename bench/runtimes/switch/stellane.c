/* The library's own switch as its workers use it: one switch site, a function that is never inlined. This and the two
 * beside it are the only drivers that look behind the public headers. */
#define VARIANT "stellane"
#include "arch/arch.h"

typedef stel__context context;

__attribute__((noreturn)) static void context_body(context *c);

__attribute__((noinline)) static void context_go(context *from, context *to) {
    stel__context_switch(from, to, to);
}

static stel__context_exit entry(void *word) {
    context_body(word);
}

static void context_make(context *c, void *stack_top) {
    stel__context_make(c, stack_top, entry);
}

#include "switch.h"
