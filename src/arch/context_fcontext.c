#include "arch/arch.h"

void stel__fcontext_start(struct stel__fcontext_transfer t) {
    struct stel__fcontext_pair *came = (struct stel__fcontext_pair *)t.data;
    came->from->fcontext = t.fcontext;
    came->to->entry(came->to->word);
    __builtin_unreachable();
}
