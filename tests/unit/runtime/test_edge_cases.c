/* Edges (row E23): every kind of parameter at the ends of what it can be, and what no ordinary program does: nothing at
 * all, the largest and the smallest, numbers that name nothing, a runtime inside a runtime. The calls' ordinary ranges
 * are tests/contract's.
 *
 * ctest: timeout=120 */
#include "io_sides.h"
#include "must_abort.h"
#include <limits.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stellane/stellane.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#define EQ(have, want)  FIBER_ASSERT_EQ(have, want)
#define OK(call)        FIBER_OK(call)
#define IS(condition)   FIBER_ASSERT(condition)
#define THE(number)     ((void *)(intptr_t)(number))
#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

static int give(void *arg) {
    return (int)(intptr_t)arg;
}
static int leave_with(void *arg) {
    stel_exit((int)(intptr_t)arg);
}
static int until_cut_short(void *arg) {
    (void)arg;
    return stel_sleep(STEL_FOREVER);
}

/* ---- nothing at all ---- */

static int zero_bytes(void *arg) {
    int p[2], dgram[2], file = (int)OK(stel_open("/proc/self/exe", O_RDONLY, 0));
    struct iovec none[2] = { { NULL, 0 }, { NULL, 0 } };
    size_t done = 99;
    off_t at = 0;
    char byte;
    (void)arg;
    EQ(pipe(p), 0);
    EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, dgram), 0);
    EQ(stel_read(p[0], NULL, 0), 0); /* nobody writes: it must not wait */
    EQ(stel_readv(p[0], none, 2), 0);
    EQ(stel_readv(p[0], NULL, 0), 0);
    EQ(stel_write(p[1], NULL, 0), 0);
    EQ(stel_writev(p[1], none, 2), 0);
    EQ(stel_writev(p[1], NULL, 0), 0);
    EQ(stel_pread(file, NULL, 0, INT64_MAX), 0);
    EQ(stel_sendfile(p[1], file, NULL, 0), 0);
    EQ(stel_sendfile(p[1], file, &at, 0), 0);
    EQ(stel_splice(p[0], NULL, p[1], NULL, 0, 0), 0);
    EQ(stel_read_full(p[0], NULL, 0, &done), 0);
    EQ(done, 0);
    EQ(stel_write_all(p[1], NULL, 0, &done), 0);
    EQ(done, 0);
    EQ(stel_poll(NULL, 0, 0), 0);
    EQ(stel_select(NULL, 0, STEL_SELECT_NOWAIT), -EAGAIN);
    EQ(stel_read(dgram[0], NULL, 0), 0);    /* there is no message, and none is asked for */
    EQ(stel_send(dgram[1], NULL, 0, 0), 0); /* but this is one, and so is the next */
    EQ(stel_write(dgram[1], NULL, 0), 0);
    EQ(stel_recv(dgram[0], &byte, 1, 0), 0);
    EQ(stel_recv(dgram[0], NULL, 0, 0), 0);
    EQ(stel_recv(dgram[0], &byte, 1, MSG_DONTWAIT), -EAGAIN);
    EQ(stel_read(p[0], &byte, 1 - stel_write(p[1], "x", 1)), 0); /* there is a byte: it stays */
    EQ(stel_read(p[0], &byte, 1), 1);
    EQ(stel_wait_fd(p[1], 0), -EINVAL);
    stel_waitgroup none_to_wait_for = STEL_WAITGROUP_INIT;
    stel_waitgroup_add(&none_to_wait_for, 0);
    OK(stel_waitgroup_wait(&none_to_wait_for));
    stel_scope empty;
    OK(stel_scope_open(&empty, 0));
    OK(stel_scope_join(&empty));
    STEL_TIMEOUT(INT64_MIN);
    EQ(stel_write(p[1], NULL, 0), -ETIMEDOUT); /* nothing to do is no excuse */
    EQ(stel_poll(NULL, 0, 0), -ETIMEDOUT);
    for (int i = 0; i < 2; i++) {
        OK(stel_close(p[i]));
        OK(stel_close(dgram[i]));
    }
    return stel_close(file);
}

START_TEST(nothing_at_all) {
    on_all_kinds(zero_bytes);
}
END_TEST

/* ---- numbers that are no descriptors ---- */

#define REFUSED(call) EQ(call, -EBADF)

static void refuse(int fd, int file, int pipe_in, int pipe_out) {
    char bytes[8] = "";
    struct iovec piece = { bytes, sizeof bytes };
    struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1 };
    struct sockaddr_storage name = { .ss_family = AF_INET };
    struct pollfd asked = { .fd = fd, .events = POLLIN };
    off_t at = 0;
    REFUSED(stel_read(fd, bytes, 8));
    REFUSED(stel_write(fd, bytes, 8));
    REFUSED(stel_read(fd, NULL, 0));
    REFUSED(stel_write(fd, NULL, 0));
    REFUSED(stel_readv(fd, &piece, 1));
    REFUSED(stel_writev(fd, &piece, 1));
    REFUSED(stel_pread(fd, bytes, 8, 0));
    REFUSED(stel_pwrite(fd, bytes, 8, 0));
    REFUSED(stel_recv(fd, bytes, 8, 0));
    REFUSED(stel_send(fd, bytes, 8, 0));
    REFUSED(stel_recvfrom(fd, bytes, 8, 0, NULL, NULL));
    REFUSED(stel_sendto(fd, bytes, 8, 0, NULL, 0));
    REFUSED(stel_recvmsg(fd, &message, 0));
    REFUSED(stel_sendmsg(fd, &message, 0));
    REFUSED(stel_sendfile(fd, file, &at, 8));
    REFUSED(stel_sendfile(pipe_out, fd, &at, 8));
    REFUSED(stel_splice(fd, NULL, pipe_out, NULL, 8, 0));
    REFUSED(stel_splice(pipe_in, NULL, fd, NULL, 8, 0));
    REFUSED(stel_accept(fd, NULL, NULL));
    REFUSED(stel_accept4(fd, NULL, NULL, SOCK_NONBLOCK));
    REFUSED(stel_connect(fd, (struct sockaddr *)&name, sizeof(struct sockaddr_in)));
    REFUSED(stel_fsync(fd));
    REFUSED(stel_fdatasync(fd));
    REFUSED(stel_wait_fd(fd, POLLIN));
    REFUSED(stel_read_full(fd, bytes, 8, NULL));
    REFUSED(stel_write_all(fd, bytes, 8, NULL));
    REFUSED(stel_close(fd));
    EQ(stel_poll(&asked, 1, 0), fd >= 0);
    EQ(asked.revents, fd >= 0 ? POLLNVAL : 0);
    EQ(stel_fd_release(fd), fd >= 0 ? 0 : -EBADF);
}

static int no_descriptors(void *arg) {
    int p[2], used[2], file = (int)OK(stel_open("/proc/self/exe", O_RDONLY, 0));
    (void)arg;
    EQ(pipe(p), 0);
    EQ(pipe(used), 0);
    EQ(stel_write(used[1], "x", 1), 1);
    OK(stel_close(used[0]));
    OK(stel_close(used[1]));
    const int numbers[] = { -1, INT_MIN, INT_MAX, INT_MAX - 1, AT_FDCWD, 1 << 24, used[0], used[1] };
    for (size_t i = 0; i < COUNT_OF(numbers); i++)
        refuse(numbers[i], file, p[0], p[1]);
    OK(stel_close(p[0]));
    OK(stel_close(p[1]));
    return stel_close(file);
}

START_TEST(numbers_that_are_no_descriptors) {
    on_all_kinds(no_descriptors);
}
END_TEST

/* ---- ten thousand of them ---- */

typedef struct question {
    struct pollfd *fds;
    nfds_t count;
} question;

static int ask(void *arg) {
    question *q = arg;
    return stel_poll(q->fds, q->count, -1);
}

/* Half of them different, the other half all the same, and waited on all at once. */
static int poll_many(void *arg) {
    nfds_t n = (nfds_t)(uintptr_t)arg;
    struct pollfd *fds = calloc(n, sizeof *fds);
    int p[2];
    uint64_t one = 1;
    char byte;
    side other;
    IS(fds != NULL);
    EQ(pipe(p), 0);
    for (nfds_t i = 0; i < n; i++)
        fds[i] = (struct pollfd){ .fd = i % 2 ? p[0] : eventfd(0, EFD_CLOEXEC), .events = POLLIN };
    IS(fds[n - 2].fd >= 0);
    question q = { fds, n };
    side_start(&other, ask, &q);
    AWAIT_PARKED(p[0], n / 2);
    EQ(stel_write(p[1], "x", 1), 1);
    EQ(side_join(&other), (int)(n / 2));
    EQ(parked_on(p[0]), 0);
    EQ(stel_read(p[0], &byte, 1), 1);
    side_start(&other, ask, &q);
    AWAIT_PARKED(fds[n - 2].fd, 1);
    EQ(stel_write(fds[0].fd, &one, sizeof one), 8);
    EQ(side_join(&other), 1);
    EQ(fds[0].revents, POLLIN);
    for (nfds_t i = 0; i < n; i += 2) {
        EQ(parked_on(fds[i].fd), 0);
        OK(stel_close(fds[i].fd));
    }
    OK(stel_close(p[0]));
    OK(stel_close(p[1]));
    free(fds);
    return 0;
}

START_TEST(ten_thousand_descriptors) {
    struct rlimit limit;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max < 12000 ? limit.rlim_max : 12000;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    uintptr_t n = test_scale(10000) / 2 * 2 + 2;
    if (n > limit.rlim_cur - 64) n = (limit.rlim_cur - 64) / 2 * 2;
    ck_assert_int_eq(run_in_runtime(2, poll_many, (void *)n), 0);
    ck_assert_int_eq(poll_many((void *)n), 0);
    struct pollfd *too_many = calloc(limit.rlim_cur + 1, sizeof *too_many);
    ck_assert_ptr_nonnull(too_many);
    int want = poll(too_many, limit.rlim_cur + 1, 0); /* -EINVAL; Valgrind keeps the limit from the kernel */
    ck_assert_int_eq(stel_poll(too_many, limit.rlim_cur + 1, 0), want < 0 ? -errno : want);
    free(too_many);
}
END_TEST

/* ---- what the resolver and listen make of nonsense: just what libc and the kernel do ---- */

static void compare_names(const char *node, const char *service, const struct addrinfo *hints) {
    struct addrinfo *theirs = NULL, *ours = (struct addrinfo *)THE(-1);
    int want = getaddrinfo(node, service, hints, &theirs), have = stel_getaddrinfo(node, service, hints, &ours);
    EQ(have, want ? STEL_EAI(want) : 0);
    if (want) {
        IS(ours == (struct addrinfo *)THE(-1)); /* not touched */
        IS(strcmp(stel_strerror(have), stel_strerror(INT_MIN)) != 0);
        return;
    }
    freeaddrinfo(theirs);
    freeaddrinfo(ours);
}

static int ask_for_nonsense(void *arg) {
    static char endless[70000];
    static const char *const nodes[] = { NULL,   "",      "1.2.3.4.5", "%s%n",      "\xff\xfe\x01",
                                         "::1%", "[::1]", "-1",        "0x7f1",     "1.2.3.4 ",
                                         "::::", endless, "fe80::1%",  "256.1.1.1", "::1" };
    static const char *const services[] = { NULL, "", "-1", "http\n", "99999999999999999999", "%n", endless, "80" };
    const struct addrinfo sane = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM };
    struct addrinfo odd = sane;
    (void)arg;
    memset(endless, 'a', sizeof endless - 1);
    for (size_t i = 0; i < COUNT_OF(nodes); i++)
        for (size_t k = 0; k < COUNT_OF(services); k++)
            compare_names(nodes[i], services[k], &sane);
    odd.ai_flags = INT_MIN | AI_NUMERICHOST;
    compare_names("::1", "80", &odd);
    odd = sane;
    odd.ai_family = INT_MAX;
    compare_names("::1", "80", &odd);
    odd = sane;
    odd.ai_socktype = -1;
    compare_names("::1", "80", &odd);
    odd.ai_protocol = INT_MAX;
    compare_names("::1", "80", &odd);
    EQ(stel_getaddrinfo("::1", "80", &sane, NULL), -EINVAL);
    return 0;
}

START_TEST(names_of_nothing) {
    on_all_kinds(ask_for_nonsense);
}
END_TEST

static int listen_with(void *arg) {
    char address[32];
    int listener = (int)OK(stel_listen("127.0.0.1:0", (int)(intptr_t)arg));
    snprintf(address, sizeof address, "127.0.0.1:%d", tcp_port_of(listener));
    int client = (int)OK(stel_dial(address)), server = (int)OK(stel_accept(listener, NULL, NULL));
    OK(stel_close(client));
    OK(stel_close(server));
    return stel_close(listener);
}

START_TEST(backlogs) {
    static const int some[] = { INT_MIN, -1, 0, 1, INT_MAX };
    for (size_t i = 0; i < COUNT_OF(some); i++) {
        ck_assert_int_eq(run_in_runtime(1, listen_with, THE(some[i])), 0);
        ck_assert_int_eq(listen_with(THE(some[i])), 0);
    }
}
END_TEST

/* ---- fibers: very many, very odd ---- */

static int joins_in_reverse(void *arg) {
    size_t n = test_scale(100000);
    stel_fiber *f = calloc(n, sizeof *f);
    (void)arg;
    IS(f != NULL);
    for (size_t i = 0; i < n; i++)
        OK(stel_spawn(&f[i], give, THE(i)));
    for (size_t i = n; i-- > 0;) {
        int result = -1;
        OK(stel_join(f[i], &result));
        EQ(result, (int)i);
        EQ(stel_join(f[i], &result), -ESRCH);
    }
    free(f);
    return 0;
}

START_TEST(a_hundred_thousand_joined_in_reverse) {
    ck_assert_int_eq(run_in_runtime(1, joins_in_reverse, NULL), 0);
    ck_assert_int_eq(run_in_runtime(3, joins_in_reverse, NULL), 0);
}
END_TEST

static const int extremes[] = { INT_MIN, INT_MIN + 1, STEL_EAI(EAI_NONAME), -ECANCELED, -1, 0, 1, INT_MAX };

static int results_as_they_are(void *arg) {
    stel_stats before, after;
    (void)arg;
    OK(stel_runtime_stats(stel_runtime_current(), &before));
    for (size_t i = 0; i < COUNT_OF(extremes); i++) {
        int want = extremes[i], result = want / 2 + 1;
        stel_fiber f;
        OK(stel_spawn(&f, give, THE(want)));
        OK(stel_join(f, &result));
        EQ(result, want);
        OK(stel_spawn(&f, leave_with, THE(want)));
        while ((result = stel_try_join(f, &result)) == -EAGAIN)
            stel_yield();
        OK(stel_offload(&result, give, THE(want)));
        EQ(result, want);
        stel_scope s; /* of a failure that was its own idea, -ECANCELED included, a scope tells */
        OK(stel_scope_open(&s, 0));
        OK(stel_scope_spawn(&s, leave_with, THE(want)));
        EQ(stel_scope_join(&s), want < 0 ? want : 0);
        stel_once once = STEL_ONCE_INIT;
        EQ(stel_once_call(&once, give, THE(want)), want < 0 ? want : 0);
        EQ(stel_once_call(&once, give, THE(-EBADMSG)), want < 0 ? -EBADMSG : 0); /* a failed one is tried again */
    }
    OK(stel_runtime_stats(stel_runtime_current(), &after));
    EQ(after.total_tasks_failed - before.total_tasks_failed, 3 * 5);
    return INT_MIN;
}

START_TEST(results_from_end_to_end) {
    ck_assert_int_eq(run_in_runtime(1, results_as_they_are, NULL), INT_MIN);
    ck_assert_int_eq(run_in_runtime(2, results_as_they_are, NULL), INT_MIN);
    ck_assert_int_eq(stel_run(give, THE(INT_MAX)), INT_MAX);
    ck_assert_int_eq(stel_run(leave_with, THE(INT_MIN)), INT_MIN);
}
END_TEST

static int odd_names(void *arg) {
    (void)arg;
    for (int length = 0; length <= 70; length++) {
        char name[80] = "", have[80];
        for (int i = 0; i < length; i++)
            name[i] = (char)(1 + (length * 31 + i * 7) % 255); /* every byte but 0 comes up */
        stel_spawn_options o = STEL_SPAWN_OPTIONS_INIT;
        stel_fiber f;
        o.name = name;
        OK(stel_spawn_with(&f, &o, until_cut_short, NULL));
        OK(stel_set_name(name));
        name[length < 31 ? length : 31] = 0; /* that much is kept, and not a byte changed */
        memset(have, '#', sizeof have);
        OK(stel_fiber_name(f, have, SIZE_MAX));
        IS(strcmp(have, name) == 0);
        EQ(have[strlen(name) + 1], '#');
        OK(stel_fiber_name(stel_self(), have, 32));
        IS(strcmp(have, name) == 0);
        OK(stel_cancel(f));
        OK(stel_join(f, NULL));
    }
    return 0;
}

static stel_scope left_open;
static int leaves_a_scope(void *arg) {
    OK(stel_set_name(arg));
    return stel_scope_open(&left_open, 0);
}
static void die_with_a_format_for_a_name(void) {
    run_in_runtime(1, leaves_a_scope, "%s%n%s%n%999999d\xff");
}

START_TEST(names_of_odd_bytes) {
    must_abort(die_with_a_format_for_a_name, "\"%s%n%s%n%999999d\xff\" ends with the scope");
    ck_assert_int_eq(run_in_runtime(1, odd_names, NULL), 0);
}
END_TEST

typedef struct crowd {
    stel_fiber target;
    stel_event end;
    _Atomic int winners, losers, cut_short, arrived;
} crowd;

static int awaited(void *arg) {
    crowd *c = arg;
    OK(stel_event_wait(&c->end));
    return 77;
}

static int joins_the_one(void *arg) {
    crowd *c = arg;
    int result = 0;
    atomic_fetch_add(&c->arrived, 1);
    int rc = stel_join(c->target, &result);
    atomic_fetch_add(rc == 0 ? &c->winners : rc == -ESRCH ? &c->losers : &c->cut_short, 1);
    EQ(result, rc == 0 ? 77 : 0);
    return rc;
}

/* The first of a thousand is told the result, the others that they are not the first. If it is cut short instead, the
 * next who asks is the first. */
static int thousand_joiners(void *arg) {
    enum { JOINERS = 1000 };
    bool cut_first = arg != NULL;
    stel_fiber f[JOINERS];
    crowd c = { .arrived = 0 };
    OK(stel_spawn(&c.target, awaited, &c));
    for (int i = 0; i < JOINERS; i++)
        OK(stel_spawn(&f[i], joins_the_one, &c));
    while (atomic_load(&c.losers) < JOINERS - 1) /* they need not wait for the end */
        stel_yield();
    if (cut_first) {
        for (int i = 0; i < JOINERS; i++)
            (void)stel_cancel(f[i]); /* one of them waits */
        while (!atomic_load(&c.cut_short))
            stel_yield();
        OK(stel_spawn(&f[0], joins_the_one, &c)); /* its handle is not needed any more */
        while (atomic_load(&c.arrived) <= JOINERS)
            stel_yield();
    }
    stel_event_set(&c.end);
    while (!atomic_load(&c.winners))
        stel_yield();
    for (int i = 0; i < JOINERS; i++)
        OK(stel_join(f[i], NULL));
    EQ(atomic_load(&c.winners), 1);
    EQ(atomic_load(&c.cut_short), cut_first);
    EQ(stel_join(c.target, NULL), -ESRCH);
    return 0;
}

START_TEST(a_thousand_join_one) {
    for (int cut_first = 0; cut_first < 2; cut_first++)
        for (int workers = 1; workers <= 4; workers += 3)
            ck_assert_int_eq(run_in_runtime(workers, thousand_joiners, THE(cut_first)), 0);
}
END_TEST

/* What a fiber can still do that has cancelled itself, and what it cannot. */
static int cancels_itself(void *arg) {
    stel_mutex m = STEL_MUTEX_INIT;
    stel_chan *c = NULL;
    stel_fiber f;
    stel_scope s;
    int result, value = 5, p[2];
    (void)arg;
    OK(stel_chan_create(&c, sizeof value, 1));
    EQ(pipe(p), 0);
    OK(stel_scope_open(&s, 0));
    for (int i = 0; i < 3; i++)
        OK(stel_scope_spawn(&s, until_cut_short, NULL));
    EQ(stel_detach(stel_self()), -ESRCH); /* it is */
    OK(stel_cancel(stel_self()));
    OK(stel_cancel(stel_self()));
    IS(stel_cancelled());
    EQ(stel_sleep(0), -ECANCELED);
    EQ(stel_park(), -ECANCELED);
    EQ(stel_write(p[1], "x", 1), -ECANCELED);
    EQ(stel_chan_send(c, &value), -ECANCELED);
    EQ(stel_scope_spawn(&s, give, NULL), -ECANCELED);
    stel_mutex_lock(&m);
    stel_mutex_unlock(&m);
    stel_yield();
    OK(stel_chan_try_send(c, &value));
    OK(stel_chan_try_recv(c, &value));
    OK(stel_spawn(&f, give, THE(9))); /* which is not cancelled with it */
    EQ(stel_join(f, &result), -ECANCELED);
    while ((result = stel_try_join(f, &value)) == -EAGAIN)
        stel_yield();
    EQ(value, 9);
    EQ(stel_scope_join(&s), -ECANCELED);
    {
        STEL_SHIELD(STEL_FOREVER);
        EQ(stel_sleep(1), 0);
        EQ(stel_write(p[1], "x", 1), 1);
        OK(stel_scope_open(&s, 0));
        OK(stel_scope_spawn(&s, give, NULL));
        OK(stel_scope_join(&s));
    }
    OK(stel_close(p[0]));
    OK(stel_close(p[1]));
    stel_chan_destroy(c);
    return 0;
}

static int starts_one_that_cancels_itself(void *arg) {
    return stel_go(cancels_itself, arg);
}

START_TEST(a_fiber_cancels_itself) {
    ck_assert_int_eq(run_in_runtime(1, starts_one_that_cancels_itself, NULL), 0);
    ck_assert_int_eq(run_in_runtime(2, starts_one_that_cancels_itself, NULL), 0);
}
END_TEST

/* ---- time ---- */

static const int64_t lengths[] = { INT64_MIN, INT64_MIN + 1, -1, 0, 1, STEL_FOREVER - 1, STEL_FOREVER };
static bool never_comes(int64_t length) {
    return length > STEL_SEC(1);
}

static int every_length(void *arg) {
    (void)arg;
    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        int64_t length = lengths[i];
        bool never = never_comes(length);
        {
            STEL_TIMEOUT(length);
            EQ(stel_sleep(STEL_US(10)), never ? 0 : -ETIMEDOUT);
            STEL_SHIELD(STEL_FOREVER); /* hides it */
            EQ(stel_sleep(STEL_US(10)), 0);
        }
        {
            STEL_TIMEOUT(-1);
            STEL_SHIELD(length); /* hides it or does not */
            EQ(stel_sleep(STEL_US(10)), never ? 0 : -ETIMEDOUT);
        }
        EQ(stel_deadline(), STEL_FOREVER);
        int64_t before = stel_deadline_push(length); /* a point in time; all but the last are long ago or never */
        EQ(stel_sleep(STEL_US(10)), never ? 0 : -ETIMEDOUT);
        stel_deadline_pop(before);
        STEL_TIMEOUT(STEL_US(200));
        if (never) {
            EQ(stel_sleep(length), -ETIMEDOUT);
            stel_deadline_pop(STEL_FOREVER);
            STEL_TIMEOUT(STEL_US(200));
            EQ(stel_sleep_until(length), -ETIMEDOUT);
        } else {
            stel_deadline_pop(STEL_FOREVER);
            EQ(stel_sleep(length), 0);
            EQ(stel_sleep_until(length), 0);
        }
        stel_deadline_pop(STEL_FOREVER);
    }
    static const int milliseconds[] = { INT_MIN, -1, INT_MAX };
    for (size_t i = 0; i < COUNT_OF(milliseconds); i++) {
        STEL_TIMEOUT(STEL_US(200));
        EQ(stel_poll(NULL, 0, milliseconds[i]), -ETIMEDOUT);
        IS(stel_timed_out());
    }
    return 0;
}

START_TEST(times_from_end_to_end) {
    on_all_kinds(every_length);
}
END_TEST

static int sleeps_for(void *arg) {
    return stel_sleep(INT64_C(1) << (uintptr_t)arg);
}

/* Sleepers of every magnitude side by side, from a nanosecond to three hundred years, twice: by themselves, and as fibers
 * that begin later. */
static int magnitudes(void *arg) {
    enum { SHORT = 21, ALL = 63 };
    stel_fiber f[2 * ALL];
    int result;
    (void)arg;
    for (int i = 0; i < ALL; i++) {
        OK(stel_spawn(&f[i], sleeps_for, THE(i)));
        OK(stel_spawn_after(&f[ALL + i], INT64_C(1) << i, give, THE(i)));
    }
    for (int i = 0; i < SHORT; i++) {
        OK(stel_join(f[i], &result));
        EQ(result, 0);
        OK(stel_join(f[ALL + i], &result));
        EQ(result, i);
    }
    for (int i = ALL - 1; i >= 40; i--) /* a quarter of an hour and more */
        for (int k = 0; k < 2; k++)
            EQ(stel_try_join(f[k * ALL + i], &result), -EAGAIN);
    for (int i = SHORT; i < ALL; i++)
        for (int k = 0; k < 2; k++) {
            OK(stel_cancel(f[k * ALL + i]));
            OK(stel_join(f[k * ALL + i], &result));
            IS(result == -ECANCELED || i < 40);
        }
    return 0;
}

START_TEST(sleeps_of_every_magnitude) {
    ck_assert_int_eq(run_in_runtime(1, magnitudes, NULL), 0);
    ck_assert_int_eq(run_in_runtime(2, magnitudes, NULL), 0);
}
END_TEST

static int ends_by_itself(void *arg) {
    (void)arg;
    return stel_sleep(STEL_MS(2));
}

static int shuts_down_twice(void *arg) {
    (void)arg;
    OK(stel_shutdown(STEL_FOREVER));
    EQ(stel_sleep(STEL_MS(1)), 0); /* all the time in the world */
    OK(stel_shutdown(INT64_MIN));  /* or none */
    OK(stel_shutdown(STEL_FOREVER));
    return stel_sleep(STEL_FOREVER);
}

START_TEST(graces_from_end_to_end) {
    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        stel_config c;
        stel_runtime *rt;
        stel_fiber f;
        int result;
        bool never = never_comes(lengths[i]);
        stel_config_init(&c);
        c.worker_threads = 2;
        c.stop_timeout_ns = STEL_FOREVER;
        ck_assert_int_eq(stel_runtime_create(&rt, &c), 0);
        ck_assert_int_eq(stel_runtime_start(rt), 0);
        ck_assert_int_eq(stel_runtime_spawn(rt, &f, NULL, never ? ends_by_itself : until_cut_short, NULL), 0);
        ck_assert_int_eq(stel_runtime_stop(rt, lengths[i]), 0);
        ck_assert_int_eq(stel_join(f, &result), 0);
        ck_assert_int_eq(result, never ? 0 : -ECANCELED);
        ck_assert_int_eq(stel_runtime_destroy(rt), 0);
    }
    ck_assert_int_eq(stel_run(shuts_down_twice, NULL), -ECANCELED);
}
END_TEST

static int comes_too_late(void *arg) {
    IS(stel_deadline() <= stel_now());
    int rc = stel_sleep(0); /* cancelled as well, when the opener has come to its join */
    IS(rc == -ETIMEDOUT || rc == -ECANCELED);
    STEL_SHIELD(STEL_SEC(1000)); /* it may clean up all the same */
    EQ(stel_sleep(STEL_US(10)), 0);
    atomic_fetch_add((_Atomic int *)arg, 1);
    return 0;
}

/* Children of a scope whose time was over before it was opened are born all the same, and are waited for. */
static int late_scopes(void *arg) {
    _Atomic int ran = 0;
    (void)arg;
    for (int collect = 0; collect < 2; collect++) {
        STEL_TIMEOUT(collect ? INT64_MIN : -1);
        stel_scope s;
        OK(stel_scope_open(&s, collect ? STEL_SCOPE_COLLECT : 0));
        OK(stel_scope_spawn(&s, comes_too_late, &ran));
        OK(stel_scope_spawn(&s, comes_too_late, &ran));
        EQ(stel_scope_join(&s), -ETIMEDOUT);
        IS(stel_timed_out());
        EQ(atomic_load(&ran), 2 + 2 * collect);
    }
    return 0;
}

START_TEST(a_child_that_comes_too_late) {
    ck_assert_int_eq(run_in_runtime(1, late_scopes, NULL), 0);
}
END_TEST

/* ---- channels ---- */

enum { CASES = 1024 };

typedef struct switchboard {
    stel_chan *chan[CASES];
    stel_case cases[CASES + 1];
    int got[CASES];
} switchboard;

static int selects(void *arg) {
    switchboard *b = arg;
    return stel_select(b->cases, CASES, 0);
}

static int a_thousand_cases(void *arg) {
    switchboard *b = calloc(1, sizeof *b);
    uint64_t random = test_seed();
    side other;
    (void)arg;
    IS(b != NULL);
    for (int i = 0; i < CASES; i++) {
        OK(stel_chan_create(&b->chan[i], sizeof(int), 0));
        b->cases[i] = STEL_CASE_RECV(b->chan[i], &b->got[i]);
    }
    for (uint64_t round = test_scale(100); round > 0; round--) {
        int k = (int)test_random(&random, CASES), value = (int)round;
        memset(b->got, 0, sizeof b->got);
        side_start(&other, selects, b);
        if (round % 2)
            while (stel_chan_try_send(b->chan[k], &value) == -EAGAIN) /* it waits */
                stel_yield();
        else
            OK(stel_chan_send(b->chan[k], &value));
        EQ(side_join(&other), k);
        for (int i = 0; i < CASES; i++) {
            EQ(b->got[i], i == k ? value : 0);
            EQ(stel_chan_try_send(b->chan[i], &value), -EAGAIN); /* it is gone from every queue */
        }
    }
    /* One more is one too many, although the first is ready. */
    OK(stel_chan_close(b->chan[0]));
    b->cases[CASES] = b->cases[1];
    EQ(stel_select(b->cases, CASES + 1, 0), -EINVAL);
    EQ(stel_select(b->cases, SIZE_MAX, STEL_SELECT_NOWAIT), -EINVAL);
    EQ(stel_select(b->cases, CASES, 0), 0);
    EQ(b->cases[0].result, -EPIPE);
    /* All on one channel, half of them sending: it does not meet itself, but others. */
    for (int i = 0; i < CASES; i++)
        b->cases[i] = i % 2 ? STEL_CASE_SEND(b->chan[1], &b->got[0]) : STEL_CASE_RECV(b->chan[1], &b->got[1]);
    EQ(stel_select(b->cases, CASES, STEL_SELECT_NOWAIT), -EAGAIN);
    for (int i = 0; i < 2; i++) {
        int value = 4;
        side_start(&other, selects, b);
        OK(i ? stel_chan_send(b->chan[1], &value) : stel_chan_recv(b->chan[1], &value));
        EQ(side_join(&other) % 2, !i);
    }
    for (int i = 0; i < CASES; i++)
        stel_chan_destroy(b->chan[i]);
    free(b);
    return 0;
}

START_TEST(a_thousand_and_twenty_four_cases) {
    on_all_kinds(a_thousand_cases);
}
END_TEST

enum { LARGEST = 65536 };

static int sends_large(void *arg) {
    unsigned char *element = malloc(LARGEST);
    IS(element != NULL);
    for (int round = 0; round < 20; round++) {
        memset(element, round, LARGEST);
        OK(stel_chan_send(arg, element));
    }
    free(element);
    return stel_chan_close(arg);
}

static int large_elements(void *arg) {
    unsigned char *element = malloc(LARGEST);
    (void)arg;
    IS(element != NULL);
    for (size_t capacity = 0; capacity < 3; capacity++) {
        stel_chan *c;
        side other;
        OK(stel_chan_create(&c, LARGEST, capacity));
        side_start(&other, sends_large, c);
        for (int round = 0; round < 20; round++) {
            stel_case either[2] = { STEL_CASE_RECV(c, element), STEL_CASE_RECV(NULL, element) };
            OK(round % 2 ? stel_chan_recv(c, element) : stel_select(either, 2, 0));
            for (int i = 0; i < LARGEST; i++)
                if (element[i] != round) FIBER_FAIL("byte %d of element %d", i, round);
        }
        EQ(stel_chan_recv(c, element), -EPIPE);
        EQ(side_join(&other), 0);
        stel_chan_destroy(c);
    }
    free(element);
    /* Elements without a size need no room: there is no capacity that would be too much. */
    stel_chan *c = NULL;
    OK(stel_chan_create(&c, 0, SIZE_MAX));
    for (int i = 0; i < 1000; i++)
        OK(stel_chan_send(c, NULL));
    EQ(stel_chan_len(c), 1000);
    for (int i = 0; i < 1000; i++)
        OK(stel_chan_recv(c, NULL));
    EQ(stel_chan_try_recv(c, NULL), -EAGAIN);
    stel_chan_destroy(c);
    c = NULL;
    EQ(stel_chan_create(&c, 1, SIZE_MAX), -EINVAL);
    EQ(stel_chan_create(&c, LARGEST, SIZE_MAX / LARGEST + 1), -EINVAL);
    EQ(stel_chan_create(&c, LARGEST + 1, 0), -EINVAL);
    /* The sanitizers' and Valgrind's allocators complain of being asked. */
    if (test_scale(100) == 100) EQ(stel_chan_create(&c, LARGEST, SIZE_MAX / LARGEST / 4), -ENOMEM);
    IS(c == NULL);
    return 0;
}

START_TEST(elements_and_channels_of_any_size) {
    on_all_kinds(large_elements);
}
END_TEST

/* ---- runtimes ---- */

static int where_am_i(void *arg) {
    (void)arg;
    return stel_worker_id();
}

START_TEST(as_many_workers_as_there_may_be) {
    stel_config c;
    stel_runtime *rt = NULL;
    int workers = (int)test_scale(1024), result;
    stel_config_init(&c);
    c.worker_threads = workers;
    for (int round = 0; round < 3; round++) {
        ck_assert_int_eq(stel_runtime_create(&rt, &c), 0);
        ck_assert_int_eq(stel_runtime_start(rt), 0);
        stel_spawn_options o = STEL_SPAWN_OPTIONS_INIT;
        stel_fiber *f = calloc((size_t)workers, sizeof *f);
        for (int i = 0; round < 2 && i < workers; i++) { /* the last time nobody has ever worked */
            o.place = STEL_WORKER(i);
            ck_assert_int_eq(stel_runtime_spawn(rt, &f[i], &o, where_am_i, NULL), 0);
        }
        for (int i = 0; f[0] && i < workers; i++) {
            ck_assert_int_eq(stel_join(f[i], &result), 0);
            ck_assert_int_eq(result, i);
        }
        o.place = STEL_WORKER(workers);
        ck_assert_int_eq(stel_runtime_spawn(rt, &f[0], &o, where_am_i, NULL), -EINVAL);
        ck_assert_int_eq(stel_runtime_stop(rt, 0), 0);
        ck_assert_int_eq(stel_runtime_destroy(rt), 0);
        free(f);
    }
    EVENTUALLY(test_library_threads() == 0);
}
END_TEST

/* A call on the offload pool is on a plain thread: it may run a runtime, whose fibers offload calls ... */
static int within(void *arg) {
    intptr_t depth = (intptr_t)arg;
    int result = -1;
    if (depth == 0) return 100;
    if (stel_self()) {
        stel_runtime *mine = stel_runtime_current();
        OK(stel_offload(&result, within, THE(depth)));
        IS(stel_runtime_current() == mine);
        return result;
    }
    IS(stel_runtime_current() == NULL);
    return stel_run(within, THE(depth - 1)) + 1;
}

static int offloads_offloading(void *arg) {
    int result = 0;
    if (!arg) return stel_self() == 0;
    EQ(stel_offload(&result, offloads_offloading, (char *)arg - 1), 0);
    return result + (stel_self() == 0);
}

START_TEST(a_runtime_within_a_runtime) {
    ck_assert_int_eq(stel_run(within, THE(5)), 105);
    ck_assert_int_eq(within(THE(5)), 105);
    ck_assert_int_eq(run_in_runtime(2, offloads_offloading, THE(200)), 200); /* more than the pool has threads */
    EVENTUALLY(test_library_threads() == 0 || test_library_threads() < 64);
}
END_TEST

static int stop_it(void *rt) {
    return stel_runtime_stop(rt, 0);
}
static int offloads_the_stop(void *rt) {
    int result = 0;
    OK(stel_offload(&result, stop_it, rt));
    return result;
}

/* The stop waits for the fiber, which waits for the stop: seen as a fiber that would not end, and survived. */
START_TEST(stopped_from_its_own_offloaded_call) {
    stel_config c;
    stel_runtime *rt = NULL;
    stel_fiber f;
    int result = 0;
    stel_config_init(&c);
    c.worker_threads = 1;
    c.stop_timeout_ns = STEL_MS(20);
    ck_assert_int_eq(stel_runtime_create(&rt, &c), 0);
    ck_assert_int_eq(stel_runtime_start(rt), 0);
    ck_assert_int_eq(stel_runtime_spawn(rt, &f, NULL, offloads_the_stop, rt), 0);
    ck_assert_int_eq(stel_join(f, &result), 0);
    ck_assert_int_eq(result, -EBUSY);
    ck_assert_int_eq(stel_runtime_stop(rt, STEL_FOREVER), 0);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

TEST_MAIN("runtime/edge_cases", nothing_at_all, numbers_that_are_no_descriptors, ten_thousand_descriptors,
          names_of_nothing, backlogs, a_hundred_thousand_joined_in_reverse, results_from_end_to_end, names_of_odd_bytes,
          a_thousand_join_one, a_fiber_cancels_itself, times_from_end_to_end, sleeps_of_every_magnitude,
          graces_from_end_to_end, a_child_that_comes_too_late, a_thousand_and_twenty_four_cases,
          elements_and_channels_of_any_size, as_many_workers_as_there_may_be, a_runtime_within_a_runtime,
          stopped_from_its_own_offloaded_call)
