/* Modes: descriptor numbers that are closed, reused, replaced, shared, and that run out. */
#include "conformance.h"
#include <sys/resource.h>
#include <sys/syscall.h>

static stel_fiber spawn(stel_fn *fn, void *arg) {
    stel_fiber f;
    FIBER_OK(stel_spawn(&f, fn, arg));
    return f;
}

static void *number(int fd) {
    return (void *)(intptr_t)fd;
}

static int read_byte(void *arg) {
    char byte;
    ssize_t n = stel_read((int)(intptr_t)arg, &byte, 1);
    return n == 1 ? byte : (int)n;
}

static int wait_for_room(void *arg) {
    return stel_wait_fd((int)(intptr_t)arg, POLLOUT);
}

static int poll_it(void *arg) {
    struct pollfd watched = { .fd = (int)(intptr_t)arg, .events = POLLIN };
    int rc = stel_poll(&watched, 1, -1);
    return rc == 1 && (watched.revents & POLLNVAL) ? -EBADF : rc; /* poll(2)'s way to say so */
}

static int accept_one(void *arg) {
    return stel_accept((int)(intptr_t)arg, NULL, NULL);
}

static void full_pipe(int fds[2]) {
    char zeros[4096] = { 0 };
    FIBER_ASSERT_EQ(pipe2(fds, O_NONBLOCK), 0);
    while (write(fds[1], zeros, sizeof zeros) > 0)
        ;
}

static int close_parked(void *arg) {
    (void)arg;
    for (int round = 0; round < 5; round++) {
        int in[2], out[2], listener = (int)FIBER_OK(stel_listen("127.0.0.1:0", 1));
        FIBER_ASSERT_EQ(pipe(in), 0);
        full_pipe(out);
        stel_fiber f[] = { spawn(read_byte, number(in[0])), spawn(read_byte, number(in[0])),
                           spawn(poll_it, number(in[0])), spawn(wait_for_room, number(out[1])),
                           spawn(accept_one, number(listener)) };
        AWAIT_PARKED(in[0], 3);
        AWAIT_PARKED(out[1], 1);
        AWAIT_PARKED(listener, 1);
        FIBER_OK(stel_close(in[0]));
        FIBER_OK(stel_close(out[1]));
        FIBER_OK(stel_close(listener));
        for (unsigned i = 0; i < sizeof f / sizeof f[0]; i++)
            FIBER_ASSERT_EQ(join(f[i]), -EBADF);
        FIBER_OK(stel_close(in[1]));
        FIBER_OK(stel_close(out[0]));
    }
    return 0;
}

RULE(close_wakes, "stel_close wakes whoever waits on the number: -EBADF.") {
    run(2, close_parked, NULL);
}

static int reuse(void *arg) {
    (void)arg;
    int rounds = (int)test_scale(200);
    for (int i = 0; i < rounds; i++) {
        int old[2], fresh_ones[2];
        FIBER_ASSERT_EQ(pipe(old), 0);
        stel_fiber waits = spawn(read_byte, number(old[0]));
        if (i % 2) AWAIT_PARKED(old[0], 1);
        FIBER_ASSERT_EQ(pipe(fresh_ones), 0);
        FIBER_ASSERT_EQ(write(fresh_ones[1], "n", 1), 1);
        FIBER_OK(stel_close(old[0]));
        FIBER_ASSERT_EQ(dup2(fresh_ones[0], old[0]), old[0]); /* the number again, and there is something to read */
        int rc = join(waits);
        /* It may have begun only now: then it is a reader of the new file like any other. */
        FIBER_ASSERT(rc == -EBADF || (i % 2 == 0 && rc == 'n'));
        if (rc == 'n') FIBER_ASSERT_EQ(write(fresh_ones[1], "n", 1), 1);
        FIBER_ASSERT_EQ(read_byte(number(old[0])), 'n');
        FIBER_OK(stel_close(old[0]));
        FIBER_OK(stel_close(old[1]));
        FIBER_OK(stel_close(fresh_ones[0]));
        FIBER_OK(stel_close(fresh_ones[1]));
    }
    return 0;
}

RULE(reused_number,
     "A number that was closed and is another file's never wakes who waited on the old one, and serves the new.") {
    run(2, reuse, NULL);
}

/* Without the library's knowledge, and without ThreadSanitizer's: it holds such a close, with reason, for a race. */
static void close_behind(int fd) {
    FIBER_ASSERT_EQ(syscall(SYS_close, fd), 0);
}

static int closed_behind(void *arg) {
    (void)arg;
    int in[2], out[2];
    FIBER_ASSERT_EQ(pipe(in), 0);
    full_pipe(out);
    stel_fiber reader = spawn(read_byte, number(in[0])), writer = spawn(wait_for_room, number(out[1]));
    AWAIT_PARKED(in[0], 1);
    AWAIT_PARKED(out[1], 1);
    close_behind(in[0]);
    close_behind(out[1]);
    FIBER_ASSERT_EQ(join(reader), -EBADF);
    FIBER_ASSERT_EQ(join(writer), -EBADF);
    close(in[1]);
    close(out[0]);
    return 0;
}

RULE(closed_behind, "A number that was closed behind the library's back: its waiters hear of it within seconds.") {
    run(2, closed_behind, NULL);
}

static int replaced_behind(void *arg) {
    (void)arg;
    int old[2], other[2];
    FIBER_ASSERT_EQ(pipe(old), 0);
    FIBER_ASSERT_EQ(pipe(other), 0);
    stel_fiber reader = spawn(read_byte, number(old[0]));
    AWAIT_PARKED(old[0], 1);
    FIBER_ASSERT_EQ(syscall(SYS_dup3, other[0], old[0], 0), old[0]);
    FIBER_ASSERT_EQ(write(other[1], "o", 1), 1);
    FIBER_ASSERT_EQ(join(reader), 'o');
    /* And what is made of it later works as well: another wait on the same number. */
    reader = spawn(read_byte, number(old[0]));
    AWAIT_PARKED(old[0], 1);
    FIBER_ASSERT_EQ(write(other[1], "p", 1), 1);
    FIBER_ASSERT_EQ(join(reader), 'p');
    close(old[0]), close(old[1]), close(other[0]), close(other[1]);
    return 0;
}

RULE(replaced_behind, "A number that dup2 made another file's: its waiters are the new file's within seconds.") {
    run(2, replaced_behind, NULL);
}

static int file_comes_back(void *arg) {
    (void)arg;
    int fds[2];
    FIBER_ASSERT_EQ(pipe(fds), 0);
    stel_fiber reader = spawn(read_byte, number(fds[0]));
    AWAIT_PARKED(fds[0], 1);
    FIBER_ASSERT_EQ(write(fds[1], "a", 1), 1);
    FIBER_ASSERT_EQ(join(reader), 'a');
    int kept = dup(fds[0]);
    FIBER_OK(stel_close(fds[0]));                /* the file lives on under another number, */
    FIBER_ASSERT_EQ(dup2(kept, fds[0]), fds[0]); /* and comes back */
    for (int i = 0; i < 3; i++) {
        reader = spawn(read_byte, number(fds[0]));
        AWAIT_PARKED(fds[0], 1);
        FIBER_ASSERT_EQ(write(fds[1], "b", 1), 1);
        FIBER_ASSERT_EQ(join(reader), 'b');
    }
    close(fds[0]), close(fds[1]), close(kept);
    return 0;
}

RULE(file_comes_back, "A file that comes back under a number that it had is served.") {
    run(2, file_comes_back, NULL);
}

static int released(void *arg) {
    (void)arg;
    int fds[2];
    FIBER_ASSERT_EQ(pipe(fds), 0);
    for (int i = 0; i < 20; i++) {
        stel_fiber reader = spawn(read_byte, number(fds[0]));
        AWAIT_PARKED(fds[0], 1);
        FIBER_ASSERT_EQ(stel_fd_release(fds[0]), 0);
        if (i % 2) AWAIT_PARKED(fds[0], 1);
        FIBER_ASSERT_EQ(write(fds[1], "r", 1), 1);
        FIBER_ASSERT_EQ(join(reader), 'r');
    }
    FIBER_OK(stel_close(fds[0]));
    return stel_close(fds[1]);
}

RULE(released_number, "stel_fd_release while somebody waits: the wait goes on.") {
    run(2, released, NULL);
}

/* ---- one descriptor, several runtimes ---- */

enum { WORDS = 2000, READERS = 4 };
static _Atomic unsigned taken[WORDS];
static _Atomic int reading;

static int take_words(void *arg) {
    int fds[1] = { (int)(intptr_t)arg };
    for (uint16_t word;;) {
        ssize_t n = FIBER_OK(stel_read(fds[0], &word, sizeof word));
        if (n == 0) return 0;
        FIBER_ASSERT_EQ(n, (ssize_t)sizeof word);
        atomic_fetch_add(&taken[word], 1);
    }
}

static int read_here(void *arg) {
    stel_fiber f[READERS];
    for (int i = 0; i < READERS; i++)
        f[i] = spawn(take_words, arg);
    atomic_fetch_add(&reading, 1);
    for (int i = 0; i < READERS; i++)
        FIBER_ASSERT_EQ(join(f[i]), 0);
    return 0;
}

static void *own_runtime(void *arg) {
    stel_config *c = arg;
    int fd = c->max_tasks_per_loop; /* a word to carry it in */
    c->max_tasks_per_loop = 0;
    FIBER_ASSERT_EQ(run_in_runtime_with(c, read_here, number(fd)), 0);
    return NULL;
}

RULE(shared_by_runtimes,
     "Runtimes with this backend and with epoll share a descriptor: each byte goes to one reader.") {
    stel_config configs[3] = { configured(1), configured(2), configured(1) };
    pthread_t threads[3];
    int fds[2];
    strcpy(configs[2].backend, "epoll");
    configs[2].poller_mode = 0;
    FIBER_ASSERT_EQ(pipe(fds), 0);
    for (int i = 0; i < 3; i++) {
        configs[i].max_tasks_per_loop = fds[0];
        FIBER_ASSERT_EQ(pthread_create(&threads[i], NULL, own_runtime, &configs[i]), 0);
    }
    EVENTUALLY(atomic_load(&reading) == 3);
    for (uint16_t word = 0; word < WORDS; word++) {
        FIBER_ASSERT_EQ(stel_write(fds[1], &word, sizeof word), (ssize_t)sizeof word);
        if (word % 50 == 0) check_fiber_nap(); /* they wait again */
    }
    close(fds[1]);
    for (int i = 0; i < 3; i++)
        FIBER_ASSERT_EQ(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < WORDS; i++)
        FIBER_ASSERT_EQ(atomic_load(&taken[i]), 1);
    close(fds[0]);
}

/* ---- none are left ---- */

static int run_out(void *arg) {
    enum { MANY = 256 };
    struct rlimit limit, few;
    char address[64];
    int taken_up[MANY], n = 0;
    (void)arg;
    int listener = (int)FIBER_OK(stel_listen("127.0.0.1:0", 16));
    FIBER_OK(stel_local_address(listener, address, sizeof address));
    int client = (int)FIBER_OK(stel_dial(address)), other = (int)FIBER_OK(stel_dial(address));
    FIBER_ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    few = limit;
    few.rlim_cur = 128;
    FIBER_ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
    while (n < MANY && (taken_up[n] = dup(0)) >= 0)
        n++;
    stel_fiber f = spawn(accept_one, number(listener));
    FIBER_OK(stel_sleep(STEL_MS(2)));
    close(taken_up[--n]);
    int served = (int)FIBER_OK(join(f));
    f = spawn(read_byte, number(served)); /* waiting needs none */
    AWAIT_PARKED(served, 1);
    FIBER_ASSERT_EQ(stel_write(client, "x", 1), 1);
    FIBER_ASSERT_EQ(join(f), 'x');
    while (n > 0)
        close(taken_up[--n]);
    FIBER_ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    FIBER_OK(stel_close((int)FIBER_OK(stel_accept(listener, NULL, NULL))));
    int all[] = { served, client, other, listener };
    for (int i = 0; i < 4; i++)
        FIBER_OK(stel_close(all[i]));
    return 0;
}

RULE(descriptors_run_out, "With no descriptors left waits go on, and accept gets its connection when there is one.") {
    run(2, run_out, NULL);
}

RULE(no_runtime_without_descriptors,
     "A runtime that gets no descriptors is not created: -EMFILE, nothing is left behind.") {
    struct rlimit limit, few;
    stel_config c = configured(2);
    stel_runtime *rt = NULL;
    FIBER_OK(stel_runtime_create(&rt, &c)); /* what the first one leaves for good */
    FIBER_OK(stel_runtime_destroy(rt));
    FIBER_ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    int descriptors = test_open_descriptors(), rc = -EMFILE;
    int next = dup(0);
    close(next);
    for (int left = 0; rc == -EMFILE; left++) {
        few = limit;
        few.rlim_cur = (rlim_t)(next + left);
        FIBER_ASSERT(left < 64);
        FIBER_ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
        rc = stel_runtime_create(&rt, &c);
        FIBER_ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
        if (rc == 0) FIBER_OK(stel_runtime_destroy(rt));
        FIBER_ASSERT_EQ(test_open_descriptors(), descriptors);
    }
    FIBER_ASSERT_EQ(rc, 0);
}

const check *const run_numbers_checks[] = {
    &check_of_close_wakes,
    &check_of_reused_number,
    &check_of_closed_behind,
    &check_of_replaced_behind,
    &check_of_file_comes_back,
    &check_of_released_number,
    &check_of_shared_by_runtimes,
    &check_of_descriptors_run_out,
    &check_of_no_runtime_without_descriptors,
    NULL,
};
