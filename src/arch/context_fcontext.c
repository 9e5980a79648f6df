#include "arch/arch.h"

void stel__fcontext_start(struct stel__fcontext_transfer t) {
    struct stel__fcontext_pair *came = (struct stel__fcontext_pair *)t.data;
    came->from->fcontext = t.fcontext;
    stel__context_exit exit = came->to->entry(came->to->word);
    stel__context gone; /* written by who goes on, first of all: this stack is there so long */
    stel__context_switch(&gone, exit.to, exit.word);
    __builtin_unreachable();
}
