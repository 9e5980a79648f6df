/* stellane/chan.h: channels and select, with Go's meaning.
 *
 * A channel carries elements of one size, copied in and out, in order. Capacity 0 is a rendezvous: a send returns when
 * a receiver has the element. Sending on a closed channel is -EPIPE; receiving drains what is left, then -EPIPE. The
 * pointer NULL is Go's nil channel: send and receive on it wait until they are cut short, a select case with it is
 * never ready, close and the try forms return -EINVAL. Fibers and plain threads may use one channel together. */
#ifndef STELLANE_CHAN_H
#define STELLANE_CHAN_H

#include <stellane/base.h>

STEL_BEGIN_DECLS

typedef struct stel_chan stel_chan;

/* A new channel with one reference. element_bytes may be 0 (signals only; element pointers may then be NULL).
 * Errors: -EINVAL (out NULL; element_bytes above 65,536; the product overflows), -ENOMEM. */
STEL_API STEL_MUST_CHECK int stel_chan_create(stel_chan **out, size_t element_bytes, size_t capacity);

/* One more reference; returns c. destroy gives one back and the last frees the channel with what is in it. Whoever uses
 * or waits on a channel must hold a reference. NULL is allowed. Never wait. */
STEL_API stel_chan *stel_chan_retain(stel_chan *c);
STEL_API void stel_chan_destroy(stel_chan *c);

/* Put in, take out; wait while the channel is full or empty.
 * Errors: -EPIPE (closed; for receive: and drained), -EINVAL (element NULL though elements have a size), -ETIMEDOUT,
 * -ECANCELED. After an error nothing was sent or taken. */
STEL_API STEL_MUST_CHECK int stel_chan_send(stel_chan *c, const void *element);
STEL_API STEL_MUST_CHECK int stel_chan_recv(stel_chan *c, void *element);

/* The same without waiting. Errors: -EAGAIN (would wait), -EPIPE, -EINVAL. */
STEL_API STEL_MUST_CHECK int stel_chan_try_send(stel_chan *c, const void *element);
STEL_API STEL_MUST_CHECK int stel_chan_try_recv(stel_chan *c, void *element);

/* No more sends: senders that wait get -EPIPE, receivers drain and then get -EPIPE. Errors: -EPIPE (closed already),
 * -EINVAL (c NULL). Never waits. */
STEL_API int stel_chan_close(stel_chan *c);

/* Elements buffered now; old news when it returns. 0 for NULL. */
STEL_API size_t stel_chan_len(const stel_chan *c);

/* One thing a select may do. Fill it with STEL_CASE_SEND / STEL_CASE_RECV, as an initialiser of an automatic array or
 * on the right of an assignment. */
typedef struct stel_case {
    stel_chan *chan;
    void *element;
    int op;
    int result;           /* out: the outcome of the case taken: 0 or -EPIPE */
    uint64_t reserved[5]; /* the library's while the select waits */
} stel_case;

enum stel_case_op { STEL_CASE_OP_SEND = 1, STEL_CASE_OP_RECV = 2 };
enum stel_select_flags { STEL_SELECT_NOWAIT = 1u << 0 };

static inline stel_case stel_case_of(int op, stel_chan *chan, const void *element) {
    stel_case c = { chan, (void *)(uintptr_t)element, op, 0, { 0, 0, 0, 0, 0 } };
    return c;
}
/* Not const: compilers would say of what is received that nobody has set it. */
static inline stel_case stel__case_recv(stel_chan *chan, void *element) {
    return stel_case_of(STEL_CASE_OP_RECV, chan, element);
}
#define STEL_CASE_SEND(chan, element) stel_case_of(STEL_CASE_OP_SEND, chan, element)
#define STEL_CASE_RECV(chan, element) stel__case_recv(chan, element)

/* Wait until one of the cases can go on, do that one, and return its index; cases[index].result is its outcome (a case
 * on a closed channel is ready, with -EPIPE). Among several that are ready each is equally likely. The same channel may
 * stand in several cases. With no case that can ever be ready it waits until it is cut short.
 * Errors: -EAGAIN (STEL_SELECT_NOWAIT and none is ready), -EINVAL (cases NULL though n > 0, n above 1,024, an unknown
 * op or flag, an element missing), -ETIMEDOUT, -ECANCELED. After an error no case was done. */
STEL_API STEL_MUST_CHECK int stel_select(stel_case *cases, size_t n, unsigned flags);

STEL_END_DECLS
#endif
