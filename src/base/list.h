/* Doubly linked lists whose links live in the elements. A list is a head and a tail pointer and is empty when zeroed; a
 * link that is in no list has next == prev == NULL or stale values: whoever needs to know keeps a flag. */
#ifndef STEL_BASE_LIST_H
#define STEL_BASE_LIST_H

#include <stddef.h>

#define STEL__CONTAINER(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

typedef struct stel__link {
    struct stel__link *next, *prev;
} stel__link;

typedef struct stel__list {
    stel__link *head, *tail;
} stel__list;

static inline void stel__list_push_tail(stel__list *l, stel__link *n) {
    n->next = NULL;
    n->prev = l->tail;
    if (l->tail)
        l->tail->next = n;
    else
        l->head = n;
    l->tail = n;
}

static inline void stel__list_push_head(stel__list *l, stel__link *n) {
    n->prev = NULL;
    n->next = l->head;
    if (l->head)
        l->head->prev = n;
    else
        l->tail = n;
    l->head = n;
}

static inline void stel__list_remove(stel__list *l, stel__link *n) {
    if (n->prev)
        n->prev->next = n->next;
    else
        l->head = n->next;
    if (n->next)
        n->next->prev = n->prev;
    else
        l->tail = n->prev;
}

static inline stel__link *stel__list_pop_head(stel__list *l) {
    stel__link *n = l->head;
    if (n) stel__list_remove(l, n);
    return n;
}

#endif
