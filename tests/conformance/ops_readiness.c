/* Part "ops": arm, disarm, and the events that come of it. */
#include "conformance.h"
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

#define READINESS NOT_FOR(!has(STEL_BACKEND_READINESS), "no readiness")
#define EDGES     NOT_FOR(!has(STEL_BACKEND_READINESS) || has(STEL_BACKEND_ONESHOT), "no edges")
#define ONESHOT   NOT_FOR(!has(STEL_BACKEND_ONESHOT), "not oneshot")

/* What a backend that is not ONESHOT is always armed for. */
enum { ALL = POLLIN | POLLOUT | POLLPRI | POLLRDHUP };
static int wanted(int events) {
    return has(STEL_BACKEND_ONESHOT) ? events : ALL;
}

static int arm(void *e, int fd, int events, uint64_t token) {
    return it.ops->arm(e, fd, wanted(events), token);
}

static void put(int fd) {
    FIBER_ASSERT_EQ(write(fd, "x", 1), 1);
}

static void make_pipe(int fds[2]) {
    FIBER_ASSERT_EQ(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
}

static void close_both(int fds[2]) {
    close(fds[0]);
    close(fds[1]);
}

/* Events of this token that are there by now, and nothing else. */
static int told(void *e, uint64_t token, int32_t *result) {
    gathered g = { .n = 0 };
    gather_all(e, &g);
    int n = count_of(&g, token, result);
    FIBER_ASSERT_EQ(g.n, n);
    return n;
}

RULE(arm_then_ready, "What becomes ready after it was armed is told, with the token of the arm.") {
    READINESS;
    void *e = fresh(8);
    gathered g = { .n = 0 };
    int fds[2];
    int32_t result = 0;
    make_pipe(fds);
    FIBER_OK(arm(e, fds[0], POLLIN, UINT64_C(0x123456789abcdef0)));
    FIBER_ASSERT_EQ(told(e, UINT64_C(0x123456789abcdef0), NULL), 0);
    put(fds[1]);
    gather_until(e, &g, 1);
    FIBER_ASSERT_EQ(count_of(&g, UINT64_C(0x123456789abcdef0), &result), 1);
    FIBER_ASSERT_EQ(g.events[0].kind, STEL_EVENT_READY);
    FIBER_ASSERT(result & POLLIN);
    it.ops->destroy(e);
    close_both(fds);
}

RULE(ready_then_arm, "What is ready when it is armed is told at once.") {
    READINESS;
    void *e = fresh(8);
    gathered g = { .n = 0 };
    int fds[2];
    make_pipe(fds);
    put(fds[1]);
    FIBER_OK(arm(e, fds[0], POLLIN, 7));
    gather_until(e, &g, 1);
    FIBER_ASSERT_EQ(count_of(&g, 7, NULL), 1);
    it.ops->destroy(e);
    close_both(fds);
}

RULE(each_edge_once, "Armed once, each arrival is an event, and one only, whether or not anybody reads.") {
    EDGES;
    void *e = fresh(8);
    int fds[2];
    make_pipe(fds);
    FIBER_OK(arm(e, fds[0], POLLIN, 7));
    for (int i = 0; i < 20; i++) {
        put(fds[1]);
        FIBER_ASSERT_EQ(told(e, 7, NULL), 1);
        FIBER_ASSERT_EQ(told(e, 7, NULL), 0);
    }
    it.ops->destroy(e);
    close_both(fds);
}

RULE(armed_already, "Armed a second time: -EEXIST, and the first token stays.") {
    EDGES;
    void *e = fresh(8);
    int fds[2];
    make_pipe(fds);
    FIBER_OK(arm(e, fds[0], POLLIN, 7));
    FIBER_ASSERT_EQ(arm(e, fds[0], POLLIN, 8), -EEXIST);
    put(fds[1]);
    FIBER_ASSERT_EQ(told(e, 7, NULL), 1);
    it.ops->destroy(e);
    close_both(fds);
}

RULE(one_event_an_arm,
     "Armed for one event: none follows it until the next arm, which tells at once what still holds.") {
    ONESHOT;
    void *e = fresh(8);
    int fds[2];
    make_pipe(fds);
    for (int i = 0; i < 20; i++) {
        put(fds[1]);
        FIBER_OK(arm(e, fds[0], POLLIN, 7));
        FIBER_ASSERT_EQ(told(e, 7, NULL), 1);
        put(fds[1]);
        FIBER_ASSERT_EQ(told(e, 7, NULL), 0);
    }
    it.ops->destroy(e);
    close_both(fds);
}

RULE(arm_replaces, "A second arm replaces the first: its events, its token.") {
    ONESHOT;
    void *e = fresh(8);
    int fds[2];
    int32_t result = 0;
    FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    FIBER_OK(arm(e, fds[0], POLLIN, 7));
    FIBER_ASSERT_EQ(told(e, 7, NULL), 0);
    FIBER_OK(arm(e, fds[0], POLLOUT, 8));
    FIBER_ASSERT_EQ(told(e, 8, &result), 1);
    FIBER_ASSERT_EQ(result & (POLLIN | POLLOUT), POLLOUT);
    FIBER_OK(arm(e, fds[0], POLLOUT, 9));
    FIBER_OK(arm(e, fds[0], POLLIN, 10));
    FIBER_ASSERT_EQ(told(e, 9, NULL), 0); /* though there is room: that is no longer asked for */
    put(fds[1]);
    FIBER_ASSERT_EQ(told(e, 10, NULL), 1);
    it.ops->destroy(e);
    close_both(fds);
}

RULE(only_what_is_asked, "An event that is not asked for is not told.") {
    ONESHOT;
    void *e = fresh(8);
    int fds[2];
    FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    FIBER_OK(arm(e, fds[0], POLLIN, 7)); /* there is room to write */
    FIBER_ASSERT_EQ(told(e, 7, NULL), 0);
    it.ops->destroy(e);
    close_both(fds);
}

RULE(room_to_write, "Room to write is told when the reader has made it.") {
    READINESS;
    void *e = fresh(8);
    int fds[2];
    int32_t result = 0;
    char buffer[4096] = { 0 };
    make_pipe(fds);
    while (write(fds[1], buffer, sizeof buffer) > 0)
        ;
    FIBER_OK(arm(e, fds[1], POLLOUT, 7));
    FIBER_ASSERT_EQ(told(e, 7, NULL), 0);
    while (read(fds[0], buffer, sizeof buffer) > 0)
        ;
    FIBER_ASSERT(told(e, 7, &result) >= 1);
    FIBER_ASSERT(result & POLLOUT);
    it.ops->destroy(e);
    close_both(fds);
}

RULE(hang_up, "A peer's end is told, whatever was asked for.") {
    READINESS;
    void *e = fresh(8);
    int fds[2], out[2];
    int32_t result = 0;
    make_pipe(fds);
    FIBER_OK(arm(e, fds[0], 0, 7));
    close(fds[1]);
    FIBER_ASSERT_EQ(told(e, 7, &result), 1);
    FIBER_ASSERT(result & POLLHUP);
    make_pipe(out);
    FIBER_ASSERT_EQ(fcntl(out[1], F_SETPIPE_SZ, 4096) < 0, 0);
    while (write(out[1], "x", 1) == 1)
        ;
    FIBER_OK(arm(e, out[1], 0, 8));
    FIBER_ASSERT_EQ(told(e, 8, NULL), 0);
    close(out[0]);
    FIBER_ASSERT(told(e, 8, &result) >= 1);
    FIBER_ASSERT(result & POLLERR);
    it.ops->destroy(e);
    close(fds[0]);
    close(out[1]);
}

RULE(half_close, "The end of what a peer sends is told to whoever asks for input.") {
    READINESS;
    void *e = fresh(8);
    int fds[2];
    int32_t result = 0;
    FIBER_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    FIBER_OK(arm(e, fds[0], POLLIN, 7));
    (void)told(e, 7, NULL); /* room to write, from those that tell everything */
    FIBER_ASSERT_EQ(shutdown(fds[1], SHUT_WR), 0);
    FIBER_ASSERT_EQ(told(e, 7, &result), 1);
    FIBER_ASSERT(result & (POLLIN | POLLRDHUP));
    it.ops->destroy(e);
    close_both(fds);
}

static void loopback_pair(int fds[2]) {
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t bytes = sizeof a;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    FIBER_ASSERT_EQ(bind(listener, (struct sockaddr *)&a, sizeof a), 0);
    FIBER_ASSERT_EQ(listen(listener, 1), 0);
    FIBER_ASSERT_EQ(getsockname(listener, (struct sockaddr *)&a, &bytes), 0);
    FIBER_ASSERT_EQ(connect(fds[0], (struct sockaddr *)&a, sizeof a), 0);
    fds[1] = accept(listener, NULL, NULL);
    FIBER_ASSERT(fds[1] >= 0);
    close(listener);
}

RULE(urgent_data, "Urgent data of a TCP connection is told to whoever asks for it.") {
    READINESS;
    void *e = fresh(8);
    int fds[2];
    int32_t result = 0;
    loopback_pair(fds);
    FIBER_OK(arm(e, fds[0], POLLPRI, 7));
    (void)told(e, 7, NULL);
    FIBER_ASSERT_EQ(send(fds[1], "!", 1, MSG_OOB), 1);
    gathered g = { .n = 0 };
    gather_until(e, &g, 1);
    FIBER_ASSERT(count_of(&g, 7, &result) == 1 && (result & POLLPRI));
    it.ops->destroy(e);
    close_both(fds);
}

RULE(disarmed, "Nothing is told of what was disarmed, not even what was ready before; a second time: -ENOENT.") {
    READINESS;
    void *e = fresh(8);
    int fds[2];
    make_pipe(fds);
    FIBER_ASSERT_EQ(it.ops->disarm(e, fds[0]), -ENOENT);
    FIBER_OK(arm(e, fds[0], POLLIN, 7));
    put(fds[1]);
    FIBER_ASSERT_EQ(it.ops->disarm(e, fds[0]), 0);
    FIBER_ASSERT_EQ(told(e, 7, NULL), 0);
    put(fds[1]);
    FIBER_ASSERT_EQ(told(e, 7, NULL), 0);
    FIBER_ASSERT_EQ(it.ops->disarm(e, fds[0]), -ENOENT);
    FIBER_OK(arm(e, fds[0], POLLIN, 8)); /* as if it were the first time */
    FIBER_ASSERT_EQ(told(e, 8, NULL), 1);
    it.ops->destroy(e);
    close_both(fds);
}

RULE(no_descriptor, "A number that is no descriptor: -EBADF.") {
    READINESS;
    void *e = fresh(8);
    int fds[2];
    make_pipe(fds);
    close_both(fds);
    FIBER_ASSERT_EQ(arm(e, fds[0], POLLIN, 7), -EBADF);
    FIBER_ASSERT_EQ(arm(e, -1, POLLIN, 7), -EBADF);
    FIBER_ASSERT_EQ(arm(e, 1 << 30, POLLIN, 7), -EBADF);
    it.ops->destroy(e);
}

RULE(files_refused, "A regular file and a directory: -EPERM, as nobody waits for them.") {
    READINESS;
    void *e = fresh(8);
    char name[] = "conformance-XXXXXX";
    int file = mkstemp(name), directory = open("/", O_RDONLY | O_DIRECTORY);
    FIBER_ASSERT(file >= 0 && directory >= 0);
    unlink(name);
    FIBER_ASSERT_EQ(arm(e, file, POLLIN, 7), -EPERM);
    FIBER_ASSERT_EQ(arm(e, directory, POLLIN, 7), -EPERM);
    it.ops->destroy(e);
    close(file);
    close(directory);
}

RULE(closed_number, "close(2) ends the watch; the number can be armed anew for another file.") {
    READINESS;
    enum { NUMBER = 500 }; /* nobody gets it by chance */
    void *e = fresh(8);
    int fds[2], others[2];
    make_pipe(fds);
    make_pipe(others);
    FIBER_ASSERT_EQ(dup2(fds[0], NUMBER), NUMBER);
    close(fds[0]);
    FIBER_OK(arm(e, NUMBER, POLLIN, 7));
    put(fds[1]); /* told or not: it is closed before anybody looks */
    close(NUMBER);
    FIBER_ASSERT_EQ(told(e, 7, NULL), 0);
    FIBER_ASSERT_EQ(dup2(others[0], NUMBER), NUMBER);
    FIBER_OK(arm(e, NUMBER, POLLIN, 8));
    put(others[1]);
    FIBER_ASSERT_EQ(told(e, 8, NULL), 1);
    it.ops->destroy(e);
    close(fds[1]);
    close(NUMBER);
    close_both(others);
}

typedef struct replacer {
    void *instance;
    int rounds;
    _Atomic bool done;
} replacer;

/* Arms for what holds, and before or while it is told for what never does. */
static void *replace_arms(void *p) {
    replacer *r = p;
    int fds[2];
    char byte;
    make_pipe(fds);
    for (int i = 0; i < r->rounds; i++) {
        FIBER_OK(arm(r->instance, fds[0], POLLIN, 2));
        put(fds[1]);
        FIBER_OK(arm(r->instance, fds[0], POLLPRI, 3));
        FIBER_ASSERT_EQ(read(fds[0], &byte, 1), 1);
    }
    FIBER_OK(it.ops->disarm(r->instance, fds[0]));
    atomic_store(&r->done, true);
    it.ops->interrupt(r->instance);
    close_both(fds);
    return NULL;
}

RULE(arm_replaces_during_a_wait, "The same while a wait is on: the new arm never tells what the old one waited for.") {
    ONESHOT;
    replacer r = { .instance = fresh(8), .rounds = (int)test_scale(3000) };
    pthread_t thread;
    gathered g = { .n = 0 };
    FIBER_ASSERT_EQ(pthread_create(&thread, NULL, replace_arms, &r), 0);
    while (!atomic_load(&r.done)) {
        g.n = 0;
        (void)gather(r.instance, &g, 8, STEL_FOREVER);
        FIBER_ASSERT_EQ(count_of(&g, 3, NULL), 0);
    }
    FIBER_ASSERT_EQ(pthread_join(thread, NULL), 0);
    it.ops->destroy(r.instance);
}

RULE(all_kinds, "Sockets, pipes, eventfds, timers, processes and terminals can be waited for.") {
    READINESS;
    void *e = fresh(8);
    gathered g = { .n = 0 };
    int number = eventfd(1, EFD_CLOEXEC), timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct itimerspec soon = { .it_value.tv_nsec = 1000000 };
    FIBER_ASSERT_EQ(timerfd_settime(timer, 0, &soon, NULL), 0);
    pid_t child = fork();
    if (child == 0) _exit(execl("/bin/sh", "sh", "-c", ":", NULL)); /* Valgrind looks for leaks in mere forks */
    int process = (int)syscall(SYS_pidfd_open, child, 0), terminal = posix_openpt(O_RDWR | O_NOCTTY);
    if (process < 0 && errno == ENOSYS) process = eventfd(1, EFD_CLOEXEC); /* Valgrind does not know the call */
    FIBER_ASSERT(number >= 0 && timer >= 0 && child > 0 && process >= 0 && terminal >= 0);
    FIBER_ASSERT_EQ(grantpt(terminal) | unlockpt(terminal), 0);
    int slave = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    FIBER_ASSERT(slave >= 0);
    FIBER_OK(arm(e, number, POLLIN, 1));
    FIBER_OK(arm(e, timer, POLLIN, 2));
    FIBER_OK(arm(e, process, POLLIN, 3));
    FIBER_OK(arm(e, terminal, POLLIN, 4));
    FIBER_ASSERT_EQ(write(slave, "line\n", 5), 5);
    for (uint64_t token = 1; token <= 4; token++) {
        int32_t result = 0;
        while (count_of(&g, token, &result) == 0 || !(result & POLLIN))
            (void)gather(e, &g, 8, stel_after(STEL_SEC(45)));
    }
    FIBER_ASSERT_EQ(waitpid(child, NULL, 0), child);
    it.ops->destroy(e);
    close(number), close(timer), close(process), close(slave), close(terminal);
}

RULE(all_of_many, "Of hundreds that are ready at once each is told, and once, however few are asked for at a time.") {
    READINESS;
    enum { PIPES = 300 };
    static int fds[PIPES][2];
    static gathered g;
    void *e = fresh(7);
    for (int i = 0; i < PIPES; i++) {
        make_pipe(fds[i]);
        FIBER_OK(arm(e, fds[i][0], POLLIN, (uint64_t)i));
        put(fds[i][1]);
    }
    while (g.n < PIPES)
        FIBER_ASSERT(gather(e, &g, 7, stel_after(STEL_SEC(45))) > 0);
    for (int i = 0; i < PIPES; i++)
        FIBER_ASSERT_EQ(count_of(&g, (uint64_t)i, NULL), 1);
    FIBER_ASSERT_EQ(told(e, 0, NULL), 0);
    it.ops->destroy(e);
    for (int i = 0; i < PIPES; i++)
        close_both(fds[i]);
}

RULE(duplicates, "Two numbers of one file, and one number in two instances: each arm gets its event.") {
    READINESS;
    void *e = fresh(8), *other = fresh(8);
    gathered g = { .n = 0 }, g2 = { .n = 0 };
    int fds[2];
    make_pipe(fds);
    int twin = dup(fds[0]);
    FIBER_OK(arm(e, fds[0], POLLIN, 7));
    FIBER_OK(arm(e, twin, POLLIN, 8));
    FIBER_OK(arm(other, fds[0], POLLIN, 9));
    put(fds[1]);
    gather_until(e, &g, 2);
    gather_until(other, &g2, 1);
    FIBER_ASSERT(count_of(&g, 7, NULL) == 1 && count_of(&g, 8, NULL) == 1 && count_of(&g2, 9, NULL) == 1);
    it.ops->destroy(e);
    it.ops->destroy(other);
    close_both(fds);
    close(twin);
}

RULE(high_numbers, "Descriptor numbers may be as high as the system lets them be.") {
    READINESS;
    struct rlimit limit;
    FIBER_ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    FIBER_ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    int most = limit.rlim_max > 100000 ? 100000 : (int)limit.rlim_max;
    void *e = fresh(8);
    int fds[2];
    make_pipe(fds);
    FIBER_ASSERT_EQ(dup2(fds[0], most - 1), most - 1);
    FIBER_OK(arm(e, most - 1, POLLIN, 7));
    put(fds[1]);
    FIBER_ASSERT_EQ(told(e, 7, NULL), 1);
    it.ops->destroy(e);
    close_both(fds);
    close(most - 1);
}

const check *const ops_readiness_checks[] = {
    &check_of_arm_then_ready,
    &check_of_ready_then_arm,
    &check_of_each_edge_once,
    &check_of_armed_already,
    &check_of_one_event_an_arm,
    &check_of_arm_replaces,
    &check_of_arm_replaces_during_a_wait,
    &check_of_only_what_is_asked,
    &check_of_room_to_write,
    &check_of_hang_up,
    &check_of_half_close,
    &check_of_urgent_data,
    &check_of_disarmed,
    &check_of_no_descriptor,
    &check_of_files_refused,
    &check_of_closed_number,
    &check_of_all_kinds,
    &check_of_all_of_many,
    &check_of_duplicates,
    &check_of_high_numbers,
    NULL,
};
