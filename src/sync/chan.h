/* A channel's inside. Private to sync: chan.c has the essay, select.c uses the same two operations. */
#ifndef STEL_SYNC_CHAN_H
#define STEL_SYNC_CHAN_H

#include "sync/queue.h"
#include <string.h>

struct stel_chan {
    /* Fixed once created. */
    size_t element_bytes, capacity;
    /* Counted by everybody. */
    _Atomic size_t references;
    /* Under the lock. */
    stel__spin lock;
    uint32_t closed;
    stel__list senders, receivers; /* nodes: element is where to copy from, or to */
    size_t first;                  /* the oldest element's place in the ring */
    _Atomic size_t length;         /* elements in the ring; stel_chan_len reads it without the lock */
    STEL__ALIGNED(16) unsigned char ring[];
};

/* Under c's lock: send or receive, if that needs no waiting. 0, -EPIPE, or -EAGAIN: it does. *wake is set to the ticket
 * of a plain waiter to be woken with STEL__WOKEN once the lock has been given back, or left alone. */
int stel__chan_put(stel_chan *c, const void *element, stel__ticket *wake);
int stel__chan_take(stel_chan *c, void *element, stel__ticket *wake);

#endif
