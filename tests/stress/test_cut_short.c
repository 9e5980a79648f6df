/* Calls on descriptors that deadlines and cancellations cut short at random moments, with the kernel at work in the callers'
 * buffers meanwhile: on io_uring, where a read that waits is an operation on the caller's stack, and some on epoll. A million on
 * rings: STELLANE_TEST_SCALE=4 CK_DEFAULT_TIMEOUT=600, under any sanitizer.
 *
 * What must hold. A call that was cut short has touched nothing and taken nothing: its buffer is as it was, and what comes
 * later from the stream is the next byte in order. Nothing writes to a stack after the call has returned: the frame where
 * the buffer was is filled with a pattern, which stays. No descriptor is lost by an accept that was cut short.
 *
 * ctest: labels=slow timeout=180 */
#include "check_fiber.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stellane/backend.h>
#include <stellane/stellane.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { STREAMS = 24, LISTENERS = 4, BUFFER = 192, TRAMPLED = 1536 };
static const unsigned char PATTERN = 0xa5;

typedef struct stream {
    int ends[2]; /* [0] is read; a listener is alone */
    bool listener;
    unsigned char next_in, next_out;
    _Atomic stel_fiber reader;
    atomic_flag fed; /* by one of them at a time */
    uint64_t random;
} stream;

typedef struct world {
    stream at[STREAMS];
    _Atomic int64_t left; /* calls */
    _Atomic uint64_t done, cut, cancelled;
    _Atomic int readers;
} world;

static world *here;

static uint64_t draw(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void all_pattern(const volatile unsigned char *bytes, size_t from, size_t n) {
    for (size_t i = from; i < n; i++)
        FIBER_ASSERT_EQ(bytes[i], PATTERN);
}

/* One of the ways to read. */
static ssize_t read_somehow(stream *s, unsigned char *buffer, size_t bytes) {
    struct iovec pieces[2] = { { buffer, bytes / 2 }, { buffer + bytes / 2, bytes - bytes / 2 } };
    struct pollfd both[2] = { { .fd = s->ends[0], .events = POLLIN }, { .fd = s->ends[1], .events = POLLPRI } };
    ssize_t rc;
    switch (draw(&s->random) % 4) {
    case 0:
        return stel_readv(s->ends[0], pieces, 2);
    case 1:
        rc = stel_poll(both, 2, -1);
        return rc < 0 ? rc : stel_read(s->ends[0], buffer, bytes);
    case 2:
        rc = stel_wait_fd(s->ends[0], POLLIN);
        return rc < 0 ? rc : stel_recv(s->ends[0], buffer, bytes, 0);
    default:
        return stel_read(s->ends[0], buffer, bytes);
    }
}

__attribute__((noinline)) static ssize_t take(stream *s) {
    unsigned char buffer[BUFFER];
    size_t bytes = 2 + draw(&s->random) % (BUFFER - 2);
    memset(buffer, PATTERN, sizeof buffer);
    ssize_t n = read_somehow(s, buffer, bytes);
    for (ssize_t i = 0; i < n; i++)
        FIBER_ASSERT_EQ(buffer[i], s->next_in++);
    all_pattern(buffer, n > 0 ? (size_t)n : 0, sizeof buffer);
    return n;
}

__attribute__((noinline)) static ssize_t admit(const stream *s) {
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    memset(&address, PATTERN, sizeof address);
    int fd = stel_accept(s->ends[0], (struct sockaddr *)&address, &length);
    if (fd < 0) all_pattern((unsigned char *)&address, 0, sizeof address);
    if (fd >= 0) FIBER_OK(stel_close(fd));
    return fd;
}

/* Lies where the frames of the call lay, while others run. */
__attribute__((noinline)) static void trample(uint64_t random) {
    volatile unsigned char area[TRAMPLED];
    for (size_t i = 0; i < sizeof area; i++)
        area[i] = PATTERN;
    for (uint64_t i = random % 3; i > 0; i--)
        stel_yield();
    all_pattern(area, 0, sizeof area);
}

static int reader(void *arg) {
    stream *s = arg;
    for (;;) {
        if (atomic_fetch_sub(&here->left, 1) <= 0) return 0;
        uint64_t r = draw(&s->random);
        int64_t before = stel_deadline_push(r % 8 ? stel_after((int64_t)(r >> 8) % 60000) : STEL_FOREVER);
        ssize_t n = s->listener ? admit(s) : take(s);
        stel_deadline_pop(before);
        trample(r >> 32);
        atomic_fetch_add(n < 0 ? &here->cut : &here->done, 1);
        if (n == -ECANCELED) return 1;
        FIBER_ASSERT(n >= 0 || n == -ETIMEDOUT);
    }
}

/* Has one reader after the other on the stream. */
static int keeper(void *arg) {
    stream *s = arg;
    stel_fiber f;
    int rc;
    do {
        FIBER_OK(stel_spawn(&f, reader, s));
        atomic_store(&s->reader, f);
        FIBER_OK(stel_join(f, &rc));
    } while (rc == 1);
    atomic_fetch_sub(&here->readers, 1);
    return 0;
}

static void feed(stream *s, uint64_t *random) {
    unsigned char bytes[64];
    size_t n = 1 + draw(random) % sizeof bytes;
    if (s->listener) {
        struct sockaddr_storage name;
        socklen_t length = sizeof name;
        FIBER_ASSERT_EQ(getsockname(s->ends[0], (struct sockaddr *)&name, &length), 0);
        int fd = (int)FIBER_OK(stel_socket(name.ss_family, SOCK_STREAM, 0));
        (void)!stel_connect(fd, (struct sockaddr *)&name, length);
        FIBER_OK(stel_close(fd));
        return;
    }
    if (atomic_flag_test_and_set(&s->fed)) return;
    for (size_t i = 0; i < n; i++)
        bytes[i] = (unsigned char)(s->next_out + i);
    ssize_t sent = stel_send(s->ends[1], bytes, n, MSG_DONTWAIT);
    if (sent > 0) s->next_out = (unsigned char)(s->next_out + sent);
    atomic_flag_clear(&s->fed);
}

/* Feeds some, cancels some. A call that has no deadline ends by this only. */
static int disturber(void *arg) {
    uint64_t random = *(uint64_t *)arg;
    while (atomic_load(&here->readers) > 0) {
        stream *s = &here->at[draw(&random) % STREAMS];
        if (draw(&random) % 3 == 0) {
            if (stel_cancel(atomic_load(&s->reader)) == 0) atomic_fetch_add(&here->cancelled, 1);
        } else {
            feed(s, &random);
        }
        if (draw(&random) % 4 == 0) (void)!stel_sleep((int64_t)(draw(&random) % 20000));
        stel_yield();
    }
    return 0;
}

static int disturbed(void *arg) {
    world *w = here;
    uint64_t seed = *(uint64_t *)arg;
    stel_fiber keepers[STREAMS], other;
    int before = test_open_descriptors();
    atomic_store(&w->readers, STREAMS);
    for (int i = 0; i < STREAMS; i++) {
        stream *s = &w->at[i];
        *s = (stream){ .listener = i < LISTENERS, .random = draw(&seed) | 1, .ends = { -1, -1 } };
        if (s->listener)
            s->ends[0] = (int)FIBER_OK(stel_listen("127.0.0.1:0", 64));
        else
            FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (i % 2 ? SOCK_NONBLOCK : 0), 0, s->ends),
                            0);
        FIBER_OK(stel_spawn(&keepers[i], keeper, s));
    }
    uint64_t mine = draw(&seed);
    FIBER_OK(stel_spawn(&other, disturber, &mine));
    disturber(&seed);
    FIBER_OK(stel_join(other, NULL));
    for (int i = 0; i < STREAMS; i++) {
        FIBER_OK(stel_join(keepers[i], NULL));
        for (int k = 0; k < 2; k++)
            if (w->at[i].ends[k] >= 0) FIBER_OK(stel_close(w->at[i].ends[k]));
    }
    FIBER_ASSERT_EQ(test_open_descriptors(), before);
    return 0;
}

static void cut_short(const char *backend, int mode, int workers, uint64_t calls) {
    stel_config c;
    stel_config_init(&c);
    snprintf(c.backend, sizeof c.backend, "%s", backend);
    c.poller_mode = mode;
    c.worker_threads = workers;
    here = calloc(1, sizeof *here);
    atomic_store(&here->left, (int64_t)calls);
    uint64_t seed = test_seed() | 1;
    ck_assert_int_eq(run_in_runtime_with(&c, disturbed, &seed), 0);
    printf("%s, %d workers: %llu calls ended well, %llu were cut short, %llu cancellations\n", backend, workers,
           (unsigned long long)here->done, (unsigned long long)here->cut, (unsigned long long)here->cancelled);
    ck_assert_uint_gt(here->cut, calls / 100);
    ck_assert_uint_gt(here->done, calls / 100);
    free(here);
}

static bool forbidden(void) {
    char why[128];
    if (stel_backend_probe("io_uring", why, sizeof why) >= 0) return false;
    printf("io_uring left out: %s\n", why);
    return true;
}

START_TEST(on_rings) {
    if (forbidden()) return;
    cut_short("io_uring", STEL_POLLER_PER_WORKER, 3, test_scale(175000));
    cut_short("io_uring", STEL_POLLER_INLINE, 1, test_scale(75000));
}
END_TEST

START_TEST(on_epoll) {
    cut_short("epoll", STEL_POLLER_DEDICATED, 3, test_scale(25000));
    cut_short("epoll", STEL_POLLER_PER_WORKER, 3, test_scale(25000));
}
END_TEST

TEST_MAIN("stress/cut_short", on_rings, on_epoll)
