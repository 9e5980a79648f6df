/* The seldom used half of the deque: see deque.h. */
#include "sched/deque.h"
#include "host/host.h"

static stel__deque_array *array_new(int64_t capacity) {
    stel__deque_array *a = stel__alloc(sizeof *a + sizeof a->slot[0] * (size_t)capacity);
    if (a) a->mask = capacity - 1;
    return a;
}

int stel__deque_init(stel__deque *d, int64_t capacity) {
    stel__deque_array *a = array_new(capacity);
    if (!a) return -ENOMEM;
    stel__store_relaxed(&d->bottom, 0);
    stel__store_relaxed(&d->top, 0);
    stel__store_relaxed(&d->array, a);
    return 0;
}

void stel__deque_destroy(stel__deque *d) {
    stel__deque_array *a = stel__load_relaxed(&d->array);
    while (a) {
        stel__deque_array *before = a->outgrown;
        stel__free(a);
        a = before;
    }
    stel__store_relaxed(&d->array, NULL);
}

bool stel__deque_grow(stel__deque *d) {
    stel__deque_array *old = stel__load_relaxed(&d->array);
    stel__deque_array *a = array_new((old->mask + 1) * 2);
    if (!a) return false;
    int64_t bottom = stel__load_relaxed(&d->bottom);
    for (int64_t i = stel__load_acquire(&d->top); i < bottom; i++)
        stel__store_relaxed(&a->slot[i & a->mask], stel__load_relaxed(&old->slot[i & old->mask]));
    a->outgrown = old;
    stel__store_release(&d->array, a); /* pairs with the acquire in steal */
    return true;
}

struct stel__fiber *stel__deque_steal(stel__deque *d, bool *again) {
    int64_t top = stel__load_acquire(&d->top);
    stel__fence_seq_cst(); /* against the fence in take: see the pairs */
    int64_t bottom = stel__load_acquire(&d->bottom);
    if (top >= bottom) return NULL;
    stel__deque_array *a = stel__load_acquire(&d->array);
    struct stel__fiber *f = stel__load_relaxed(&a->slot[top & a->mask]);
    if (stel__cas_seq_cst(&d->top, &top, top + 1)) return f;
    *again = true;
    return NULL;
}
