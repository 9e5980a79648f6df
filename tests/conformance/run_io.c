/* Modes: bytes come through, whatever carries them. */
#include "conformance.h"
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>

static stel_fiber spawn(stel_fn *fn, void *arg) {
    stel_fiber f;
    FIBER_OK(stel_spawn(&f, fn, arg));
    return f;
}

static void *number(int fd) {
    return (void *)(intptr_t)fd;
}

static int number_of(void *arg) {
    return (int)(intptr_t)arg;
}

static void close_both(int fds[2]) {
    FIBER_OK(stel_close(fds[0]));
    FIBER_OK(stel_close(fds[1]));
}

/* ---- echo ---- */

static int echo(void *arg) {
    int fd = number_of(arg);
    char buffer[512];
    ssize_t n;
    while ((n = FIBER_OK(stel_read(fd, buffer, sizeof buffer))) > 0)
        FIBER_OK(stel_write_all(fd, buffer, (size_t)n, NULL));
    FIBER_OK(stel_close(fd));
    return 0;
}

static int serve(void *arg) {
    int fd;
    while ((fd = stel_accept(number_of(arg), NULL, NULL)) >= 0)
        FIBER_OK(stel_go(echo, number(fd)));
    FIBER_ASSERT(fd == -EBADF || fd == -ESHUTDOWN);
    return 0;
}

static void talk_on(int fd, int rounds) {
    for (int i = 0; i < rounds; i++) {
        uint64_t out[8], in[8];
        for (int k = 0; k < 8; k++)
            out[k] = stel_self() * 31 + (uint64_t)(i * 8 + k);
        FIBER_OK(stel_write_all(fd, out, sizeof out, NULL));
        FIBER_OK(stel_read_full(fd, in, sizeof in, NULL));
        FIBER_ASSERT(memcmp(out, in, sizeof out) == 0);
    }
}

typedef struct meeting {
    char address[128];
    int clients, rounds;
    bool stay; /* all are connected before any talks */
    stel_barrier all_here;
} meeting;

static int talk(void *arg) {
    meeting *m = arg;
    int fd = (int)FIBER_OK(stel_dial(m->address));
    if (m->stay) FIBER_ASSERT(stel_barrier_wait(&m->all_here) >= 0);
    talk_on(fd, m->rounds);
    FIBER_OK(stel_close(fd));
    return 0;
}

static int meet(void *arg) {
    meeting *m = arg;
    int listener = (int)FIBER_OK(stel_listen(m->address, m->clients));
    if (!strncmp(m->address, "127", 3)) FIBER_OK(stel_local_address(listener, m->address, sizeof m->address));
    FIBER_OK(stel_barrier_init(&m->all_here, (unsigned)m->clients));
    stel_fiber server = spawn(serve, number(listener)), *clients = calloc((size_t)m->clients, sizeof *clients);
    for (int i = 0; i < m->clients; i++)
        clients[i] = spawn(talk, m);
    for (int i = 0; i < m->clients; i++)
        FIBER_ASSERT_EQ(join(clients[i]), 0);
    free(clients);
    FIBER_OK(stel_close(listener));
    return join(server);
}

RULE(echo_over_tcp, "Echo over TCP, dozens of connections at a time.") {
    meeting m = { .address = "127.0.0.1:0", .clients = 40, .rounds = (int)test_scale(50) };
    run(2, meet, &m);
}

RULE(echo_over_unix_sockets, "Echo over Unix sockets.") {
    meeting m = { .clients = 40, .rounds = (int)test_scale(50) };
    char directory[] = "conformance-XXXXXX";
    FIBER_ASSERT(mkdtemp(directory) != NULL);
    snprintf(m.address, sizeof m.address, "unix:%s/socket", directory);
    run(2, meet, &m);
    FIBER_ASSERT_EQ(unlink(m.address + 5), 0);
    FIBER_ASSERT_EQ(rmdir(directory), 0);
}

RULE(a_thousand_connections, "A thousand connections that are open at once.") {
    meeting m = { .address = "127.0.0.1:0", .clients = (int)test_scale(1000), .rounds = 2, .stay = true };
    run(2, meet, &m);
}

RULE(more_workers_than_cpus, "Echo on four workers.") {
    NOT_FOR(!has_two_workers(), "one worker");
    meeting m = { .address = "127.0.0.1:0", .clients = 40, .rounds = (int)test_scale(50) };
    run(4, meet, &m);
}

RULE(more_workers_than_loops, "Echo with a second worker beside the one that has the loop.") {
    NOT_FOR(it.mode != STEL_POLLER_INLINE, "every worker waits");
    NOT_FOR(has(STEL_BACKEND_OWNED), "refused: an instance belongs to one worker");
    meeting m = { .address = "127.0.0.1:0", .clients = 40, .rounds = (int)test_scale(50) };
    stel_config c = configured(1);
    c.worker_threads = 2; /* it says a line about that */
    FIBER_ASSERT_EQ(run_in_runtime_with(&c, meet, &m), 0);
}

/* ---- pipes ---- */

typedef struct pump {
    int in, out;
} pump;

static int pass_on(void *arg) {
    pump *p = arg;
    char buffer[1000];
    ssize_t n;
    while ((n = FIBER_OK(stel_read(p->in, buffer, sizeof buffer))) > 0)
        FIBER_OK(stel_write_all(p->out, buffer, (size_t)n, NULL));
    FIBER_OK(stel_close(p->in));
    FIBER_OK(stel_close(p->out));
    return 0;
}

static int feed(void *arg) {
    int fd = number_of(arg);
    uint32_t words[256];
    for (uint32_t i = 0; i < 256 * 256; i++) {
        words[i % 256] = i;
        if (i % 256 == 255) FIBER_OK(stel_write_all(fd, words, sizeof words, NULL));
    }
    FIBER_OK(stel_close(fd));
    return 0;
}

static int chain_of_pipes(void *arg) {
    enum { PIPES = 8 };
    int fds[PIPES][2];
    pump pumps[PIPES];
    stel_fiber fibers[PIPES];
    (void)arg;
    for (int i = 0; i < PIPES; i++)
        FIBER_ASSERT_EQ(pipe2(fds[i], i % 2 ? O_NONBLOCK : 0), 0); /* blocking ones must do as well */
    fibers[0] = spawn(feed, number(fds[0][1]));
    for (int i = 1; i < PIPES; i++) {
        pumps[i] = (pump){ fds[i - 1][0], fds[i][1] };
        fibers[i] = spawn(pass_on, &pumps[i]);
    }
    uint32_t word;
    for (uint32_t i = 0; i < 256 * 256; i++) {
        FIBER_OK(stel_read_full(fds[PIPES - 1][0], &word, sizeof word, NULL));
        FIBER_ASSERT_EQ(word, i);
    }
    FIBER_ASSERT_EQ(stel_read(fds[PIPES - 1][0], &word, sizeof word), 0);
    for (int i = 0; i < PIPES; i++)
        FIBER_ASSERT_EQ(join(fibers[i]), 0);
    return stel_close(fds[PIPES - 1][0]);
}

RULE(pipes, "Pipes, full ones too, blocking or not.") {
    run(2, chain_of_pipes, NULL);
}

/* ---- datagrams, counters, timers ---- */

static int answer_datagrams(void *arg) {
    char buffer[64];
    for (int i = 0; i < 20; i++) {
        struct sockaddr_storage from;
        socklen_t bytes = sizeof from;
        ssize_t n = FIBER_OK(stel_recvfrom(number_of(arg), buffer, sizeof buffer, 0, (struct sockaddr *)&from, &bytes));
        FIBER_ASSERT_EQ(stel_sendto(number_of(arg), buffer, (size_t)n, 0, (struct sockaddr *)&from, bytes), n);
    }
    return 0;
}

static int exchange_datagrams(void *arg) {
    (void)arg;
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t bytes = sizeof a;
    int server = (int)FIBER_OK(stel_socket(AF_INET, SOCK_DGRAM, 0));
    int client = (int)FIBER_OK(stel_socket(AF_INET, SOCK_DGRAM, 0));
    FIBER_ASSERT_EQ(bind(server, (struct sockaddr *)&a, sizeof a), 0);
    FIBER_ASSERT_EQ(getsockname(server, (struct sockaddr *)&a, &bytes), 0);
    FIBER_OK(stel_connect(client, (struct sockaddr *)&a, sizeof a));
    stel_fiber f = spawn(answer_datagrams, number(server));
    for (int i = 0; i < 20; i++) {
        char in[64];
        struct iovec iov[2] = { { &i, 1 }, { &i, sizeof i } }, whole = { in, sizeof in };
        struct msghdr out = { .msg_iov = iov, .msg_iovlen = 2 }, back = { .msg_iov = &whole, .msg_iovlen = 1 };
        FIBER_ASSERT_EQ(stel_sendmsg(client, &out, 0), 1 + (ssize_t)sizeof i);
        FIBER_ASSERT_EQ(stel_recvmsg(client, &back, 0), 1 + (ssize_t)sizeof i);
        FIBER_ASSERT(memcmp(in + 1, &i, sizeof i) == 0);
    }
    FIBER_ASSERT_EQ(join(f), 0);
    int pair[2] = { client, server };
    close_both(pair);
    return 0;
}

RULE(datagrams, "Datagrams, with addresses and in pieces.") {
    run(2, exchange_datagrams, NULL);
}

static int count_down(void *arg) {
    uint64_t n = 0;
    for (uint64_t sum = 0; sum < 10; sum += n)
        FIBER_ASSERT_EQ(stel_read(number_of(arg), &n, sizeof n), (ssize_t)sizeof n);
    return 0;
}

static int counters_and_timers(void *arg) {
    (void)arg;
    int counter = eventfd(0, EFD_CLOEXEC), timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    uint64_t n = 1;
    stel_fiber f = spawn(count_down, number(counter));
    for (int i = 0; i < 10; i++) {
        FIBER_ASSERT_EQ(stel_write(counter, &n, sizeof n), (ssize_t)sizeof n);
        stel_yield();
    }
    FIBER_ASSERT_EQ(join(f), 0);
    struct itimerspec often = { .it_interval.tv_nsec = 1000000, .it_value.tv_nsec = 1000000 };
    FIBER_ASSERT_EQ(timerfd_settime(timer, 0, &often, NULL), 0);
    for (int i = 0; i < 5; i++)
        FIBER_ASSERT(stel_read(timer, &n, sizeof n) == (ssize_t)sizeof n && n >= 1);
    pid_t child = fork();
    if (child == 0) _exit(execl("/bin/sh", "sh", "-c", "exit 7", NULL)); /* Valgrind looks for leaks in mere forks */
    int status;
    FIBER_ASSERT_EQ(stel_waitpid(child, &status, 0), child);
    FIBER_ASSERT_EQ(WEXITSTATUS(status), 7);
    int pair[2] = { counter, timer };
    close_both(pair);
    return 0;
}

RULE(counters_timers_children, "eventfds, timers, child processes.") {
    run(2, counters_and_timers, NULL);
}

/* ---- shared descriptors ---- */

static int send_much(void *arg) {
    enum { PIECE = 65536 };
    char *buffer = malloc(PIECE);
    for (size_t i = 0; i < 64; i++) {
        memset(buffer, (int)i, PIECE);
        FIBER_OK(stel_write_all(number_of(arg), buffer, PIECE, NULL));
    }
    free(buffer);
    return 0;
}

static int receive_much(void *arg) {
    enum { PIECE = 65536 };
    unsigned char *buffer = malloc(PIECE);
    for (size_t i = 0; i < 64; i++) {
        FIBER_OK(stel_read_full(number_of(arg), buffer, PIECE, NULL));
        FIBER_ASSERT(buffer[0] == i && buffer[PIECE - 1] == i);
    }
    free(buffer);
    return 0;
}

static int both_ways(void *arg) {
    (void)arg;
    int fds[2];
    tcp_pair(fds);
    stel_fiber f[4] = { spawn(receive_much, number(fds[0])), spawn(receive_much, number(fds[1])),
                        spawn(send_much, number(fds[0])), spawn(send_much, number(fds[1])) };
    for (int i = 0; i < 4; i++)
        FIBER_ASSERT_EQ(join(f[i]), 0);
    close_both(fds);
    return 0;
}

RULE(both_ways_at_once, "One fiber reads a connection and another one writes it, megabytes, both ways at once.") {
    run(2, both_ways, NULL);
}

static _Atomic unsigned taken[3000];

static int take_words(void *arg) {
    for (uint16_t word;;) {
        ssize_t n = FIBER_OK(stel_read(number_of(arg), &word, sizeof word));
        if (n == 0) return 0;
        FIBER_ASSERT_EQ(n, (ssize_t)sizeof word);
        atomic_fetch_add(&taken[word], 1);
    }
}

static int many_readers(void *arg) {
    (void)arg;
    int fds[2];
    stel_fiber readers[10];
    FIBER_ASSERT_EQ(pipe(fds), 0);
    for (int i = 0; i < 10; i++)
        readers[i] = spawn(take_words, number(fds[0]));
    for (uint16_t word = 0; word < 3000; word++) {
        FIBER_ASSERT_EQ(stel_write(fds[1], &word, sizeof word), (ssize_t)sizeof word);
        if (word % 64 == 0) FIBER_OK(stel_sleep(STEL_US(100))); /* they wait again */
    }
    FIBER_OK(stel_close(fds[1]));
    for (int i = 0; i < 10; i++)
        FIBER_ASSERT_EQ(join(readers[i]), 0);
    for (int i = 0; i < 3000; i++)
        FIBER_ASSERT_EQ(atomic_load(&taken[i]), 1);
    return stel_close(fds[0]);
}

RULE(several_readers, "Several fibers read one pipe: each byte goes to one of them.") {
    run(2, many_readers, NULL);
}

static void *thread_echo(void *arg) {
    (void)echo(arg);
    return NULL;
}

static int with_threads(void *arg) {
    (void)arg;
    for (int i = 0; i < 4; i++) {
        int fds[2];
        pthread_t thread;
        tcp_pair(fds);
        FIBER_ASSERT_EQ(pthread_create(&thread, NULL, thread_echo, number(fds[1])), 0);
        talk_on(fds[0], 50);
        FIBER_OK(stel_close(fds[0]));
        FIBER_ASSERT_EQ(pthread_join(thread, NULL), 0); /* it has ended or is about to: it closes, that is all */
    }
    return 0;
}

RULE(plain_threads, "Plain threads talk with fibers by the same calls.") {
    run(2, with_threads, NULL);
}

static int wander(void *arg) {
    int *fds = arg;
    for (int i = 0; i < 100; i++) {
        for (int k = 0; k < 5; k++)
            stel_yield(); /* to be taken elsewhere */
        talk_on(fds[0], 1);
    }
    FIBER_OK(stel_close(fds[0]));
    return 0;
}

static int wanderers(void *arg) {
    enum { PAIRS = 12 };
    int fds[PAIRS][2];
    stel_fiber f[PAIRS];
    (void)arg;
    for (int i = 0; i < PAIRS; i++) {
        FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds[i]), 0);
        f[i] = spawn_at(0, wander, fds[i]);
        FIBER_OK(stel_go(echo, number(fds[i][1])));
    }
    for (int i = 0; i < PAIRS; i++)
        FIBER_ASSERT_EQ(join(f[i]), 0);
    return 0;
}

RULE(fibers_that_move, "Fibers that move between workers find their descriptors.") {
    NOT_FOR(!has_two_workers(), "one worker");
    run(3, wanderers, NULL);
}

/* ---- waiting as such ---- */

static int fill_later(void *arg) {
    FIBER_OK(stel_sleep(STEL_MS(1)));
    FIBER_ASSERT_EQ(stel_write(number_of(arg), "x", 1), 1);
    return 0;
}

static int poll_many(void *arg) {
    enum { PIPES = 60 };
    int fds[PIPES][2];
    struct pollfd watched[PIPES];
    (void)arg;
    for (int i = 0; i < PIPES; i++) {
        FIBER_ASSERT_EQ(pipe(fds[i]), 0);
        watched[i] = (struct pollfd){ .fd = fds[i][0], .events = POLLIN };
    }
    FIBER_ASSERT_EQ(stel_poll(watched, PIPES, 0), 0);
    FIBER_ASSERT_EQ(stel_poll(watched, PIPES, 2), 0);
    for (int i = 0; i < PIPES; i += 7) {
        stel_fiber f = spawn(fill_later, number(fds[i][1]));
        FIBER_ASSERT_EQ(stel_poll(watched, PIPES, -1), 1);
        FIBER_ASSERT(watched[i].revents & POLLIN);
        char byte;
        FIBER_ASSERT_EQ(stel_read(fds[i][0], &byte, 1), 1);
        FIBER_ASSERT_EQ(join(f), 0);
    }
    struct pollfd out = { .fd = fds[0][1], .events = POLLOUT };
    FIBER_ASSERT(stel_poll(&out, 1, -1) == 1 && (out.revents & POLLOUT));
    for (int i = 0; i < PIPES; i++)
        close_both(fds[i]);
    return 0;
}

RULE(poll_over_many, "stel_poll over many descriptors, with and without a time limit.") {
    run(2, poll_many, NULL);
}

static int bare_waits(void *arg) {
    (void)arg;
    int fds[2];
    FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    for (int i = 0; i < 20; i++) {
        FIBER_ASSERT_EQ(FIBER_OK(stel_wait_fd(fds[0], POLLIN | POLLOUT)) & (POLLIN | POLLOUT), POLLOUT);
        stel_fiber f = spawn(fill_later, number(fds[1]));
        FIBER_ASSERT(FIBER_OK(stel_wait_fd(fds[0], POLLIN)) & POLLIN);
        char byte;
        FIBER_ASSERT_EQ(stel_read(fds[0], &byte, 1), 1);
        FIBER_ASSERT_EQ(join(f), 0);
    }
    FIBER_OK(stel_close(fds[1]));
    FIBER_ASSERT(FIBER_OK(stel_wait_fd(fds[0], POLLIN)) & (POLLIN | POLLHUP));
    return stel_close(fds[0]);
}

RULE(wait_for_a_descriptor, "stel_wait_fd tells what holds.") {
    run(2, bare_waits, NULL);
}

static int sleepers_only(void *arg) {
    (void)arg;
    for (int i = 0; i < 20; i++) {
        int64_t until = stel_after(STEL_US(50 * (i + 1)));
        FIBER_OK(stel_sleep_until(until));
        FIBER_ASSERT(stel_now() >= until);
    }
    return 0;
}

RULE(sleeping, "Fibers that only sleep are woken in time, though no descriptor ever is ready.") {
    run(2, sleepers_only, NULL);
}

/* ---- files ---- */

static int use_files(void *arg) {
    char name[] = "conformance-XXXXXX", text[4096], back[4096];
    (void)arg;
    int fd = mkstemp(name), fds[2];
    FIBER_ASSERT(fd >= 0);
    FIBER_OK(stel_unlink(name));
    for (int i = 0; i < 16; i++) {
        memset(text, 'a' + i, sizeof text);
        FIBER_ASSERT_EQ(stel_write(fd, text, sizeof text), (ssize_t)sizeof text);
    }
    FIBER_OK(stel_fsync(fd));
    for (int i = 15; i >= 0; i--) {
        memset(text, 'a' + i, sizeof text);
        FIBER_ASSERT_EQ(stel_pread(fd, back, sizeof back, i * 4096), (ssize_t)sizeof back);
        FIBER_ASSERT(memcmp(text, back, sizeof back) == 0);
    }
    FIBER_ASSERT_EQ(stel_pread(fd, back, sizeof back, 16 * 4096), 0);
    struct stat st;
    FIBER_OK(stel_fstat(fd, &st));
    FIBER_ASSERT_EQ(st.st_size, 16 * 4096);
    tcp_pair(fds);
    off_t offset = 4096;
    FIBER_ASSERT_EQ(stel_sendfile(fds[0], fd, &offset, 8192), 8192);
    FIBER_OK(stel_read_full(fds[1], back, sizeof back, NULL));
    FIBER_ASSERT(back[0] == 'b' && back[4095] == 'b' && offset == 3 * 4096);
    close_both(fds);
    return stel_close(fd);
}

RULE(regular_files, "Regular files: read, write, fsync, sendfile.") {
    run(2, use_files, NULL);
}

const check *const run_io_checks[] = {
    &check_of_echo_over_tcp,
    &check_of_echo_over_unix_sockets,
    &check_of_a_thousand_connections,
    &check_of_more_workers_than_cpus,
    &check_of_more_workers_than_loops,
    &check_of_pipes,
    &check_of_datagrams,
    &check_of_counters_timers_children,
    &check_of_both_ways_at_once,
    &check_of_several_readers,
    &check_of_plain_threads,
    &check_of_fibers_that_move,
    &check_of_poll_over_many,
    &check_of_wait_for_a_descriptor,
    &check_of_sleeping,
    &check_of_regular_files,
    NULL,
};
