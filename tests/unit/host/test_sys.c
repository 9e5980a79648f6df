/* The seam: results, EINTR, and faults on demand: the n-th call, once or for good, from a test or the environment. */
#include "host/fault.h"
#include "host/host.h"
#include "in_child.h"
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>

START_TEST(results_are_codes) {
    char byte;
    errno = 0;
    ck_assert_int_eq(stel__sys_read(-1, &byte, 1), -EBADF);
    ck_assert_int_eq(stel__sys_close(-1), -EBADF);
    ck_assert_int_eq(stel__sys_open("/nowhere/at/all", O_RDONLY, 0), -ENOENT);
    ck_assert_int_eq(stel__sys_fcntl_getfl(-1), -EBADF);
    ck_assert_int_eq(stel__sys_socket(-1, 0, 0), -EAFNOSUPPORT);
    ck_assert_int_eq(stel__sys_munmap((void *)1, 1), -EINVAL);
    ck_assert_int_eq(stel__sys_connect(-1, NULL, 0), test_emulated() ? -EFAULT : -EBADF);
    /* Valgrind and emulators do not know this call. */
    ck_assert_int_eq(stel__sys_process_madvise(-1, NULL, 0, 0, 1),
                     stel__sanitize_valgrind() || test_emulated() ? -ENOSYS : -EINVAL);
    int fd = stel__sys_eventfd(5, EFD_CLOEXEC);
    uint64_t number;
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(stel__sys_read(fd, &number, sizeof number), sizeof number);
    ck_assert_uint_eq(number, 5);
    ck_assert_int_eq(stel__sys_fcntl_getfl(fd) & O_ACCMODE, O_RDWR);
    ck_assert_int_eq(stel__sys_close(fd), 0);
}
END_TEST

START_TEST(data_calls) {
    int ends[2];
    char text[16] = { 0 };
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    struct iovec out[2] = { { "ab", 2 }, { "cd", 2 } }, in = { text, sizeof text };
    ck_assert_int_eq(stel__sys_writev(ends[0], out, 2), 4);
    ck_assert_int_eq(stel__sys_readv(ends[1], &in, 1), 4);
    ck_assert_str_eq(text, "abcd");
    ck_assert_int_eq(stel__sys_send(ends[0], "efg", 3, MSG_NOSIGNAL), 3);
    ck_assert_int_eq(stel__sys_recv(ends[1], text, sizeof text, MSG_DONTWAIT), 3);
    ck_assert_int_eq(stel__sys_recv(ends[1], text, sizeof text, MSG_DONTWAIT), -EAGAIN);
    struct msghdr message = { .msg_iov = out, .msg_iovlen = 2 };
    ck_assert_int_eq(stel__sys_sendmsg(ends[0], &message, 0), 4);
    message.msg_iov = &in;
    message.msg_iovlen = 1;
    ck_assert_int_eq(stel__sys_recvmsg(ends[1], &message, 0), 4);
    ck_assert_int_eq(stel__sys_shutdown(ends[0], SHUT_WR), 0);
    ck_assert_int_eq(stel__sys_read(ends[1], text, sizeof text), 0);
    stel__sys_close(ends[0]);
    ck_assert_int_eq(stel__sys_send(ends[1], "x", 1, MSG_NOSIGNAL), -EPIPE);
    stel__sys_close(ends[1]);
}
END_TEST

static void on_alarm(int number) {
    (void)number;
}

static void *write_later(void *fd) {
    int64_t until = stel_after(STEL_MS(50));
    while (stel_now() < until)
        check_fiber_nap();
    FIBER_ASSERT(stel__sys_write((int)(intptr_t)fd, "x", 1) == 1);
    return NULL;
}

START_TEST(interrupted_calls) {
    int ends[2];
    char byte = 0;
    pthread_t thread;
    ck_assert_int_eq(pipe(ends), 0);
    struct sigaction action = { .sa_handler = on_alarm }; /* without SA_RESTART */
    sigaction(SIGALRM, &action, NULL);
    struct itimerval often = { { 0, 2000 }, { 0, 2000 } }, never = { { 0, 0 }, { 0, 0 } };
    ck_assert_int_eq(stel__thread_start(&thread, "later", write_later, (void *)(intptr_t)ends[1]), 0);
    setitimer(ITIMER_REAL, &often, NULL);
    ck_assert_int_eq(stel__sys_read(ends[0], &byte, 1), 1); /* many an alarm later */
    ck_assert_int_eq(byte, 'x');
    ck_assert_int_eq(stel__sys_ppoll(NULL, 0, NULL, NULL), -EINTR);
    int epoll = stel__sys_epoll_create1(0);
    struct epoll_event event;
    ck_assert_int_eq(stel__sys_epoll_pwait2(epoll, &event, 1, NULL, NULL), -EINTR);
    setitimer(ITIMER_REAL, &never, NULL);
    pthread_join(thread, NULL);
    stel__sys_close(epoll);
}
END_TEST

START_TEST(waits_are_never_short) {
    int epoll = stel__sys_epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event;
    ck_assert_int_ge(epoll, 0);
    for (int old = 0; old < 2; old++) {
        if (old) stel__fault_set(STEL__FAULT_EPOLL_PWAIT2, 1, ENOSYS, true);
        for (long ns = 0; ns < 5000000; ns += 600001) {
            struct timespec timeout = { 0, ns };
            int64_t until = stel_after(ns);
            ck_assert_int_eq(stel__sys_epoll_pwait2(epoll, &event, 1, &timeout, NULL), 0);
            ck_assert_int_ge(stel_now(), until);
        }
    }
    /* The first call found out; the others did not ask again. */
    uint64_t found_out = stel__fault_calls(STEL__FAULT_EPOLL_PWAIT2);
    if (test_emulated())
        ck_assert_uint_le(found_out, 1); /* the emulator may lack the call: then it was found out before */
    else
        ck_assert_uint_eq(found_out, stel__sanitize_valgrind() ? 0 : 1);
    ck_assert_uint_ge(stel__fault_calls(STEL__FAULT_EPOLL_PWAIT), 9);
    stel__sys_close(epoll);
}
END_TEST

START_TEST(the_nth_call_fails) {
    char byte;
    int fd = stel__sys_open("/dev/zero", O_RDONLY | O_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    stel__fault_set(STEL__FAULT_READ, 3, EIO, false);
    for (int i = 1; i <= 6; i++)
        ck_assert_int_eq(stel__sys_read(fd, &byte, 1), i == 3 ? -EIO : 1);
    ck_assert_uint_eq(stel__fault_calls(STEL__FAULT_READ), 6);
    stel__fault_set(STEL__FAULT_READ, 2, ENOMEM, true);
    ck_assert_int_eq(stel__sys_read(fd, &byte, 1), 1);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(stel__sys_read(fd, &byte, 1), -ENOMEM);
    stel__fault_clear();
    ck_assert_int_eq(stel__sys_read(fd, &byte, 1), 1);
    /* A close that fails closes all the same. */
    stel__fault_set(STEL__FAULT_CLOSE, 1, EIO, false);
    ck_assert_int_eq(stel__sys_close(fd), -EIO);
    ck_assert_int_eq(stel__sys_fcntl_getfl(fd), -EBADF);
}
END_TEST

/* Rules that change while others call: no call slips through between two of them, and none fails in another's place. */
static _Atomic bool asking_ends, none_may_pass;
static _Atomic int asked_and_failed, asked;

static void *ask_on_and_on(void *arg) {
    while (!atomic_load(&asking_ends)) {
        bool none = atomic_load(&none_may_pass), fails = stel__fault_hit(STEL__FAULT_UNLINK) == EIO;
        FIBER_ASSERT(fails || !none);
        if (!none && fails) atomic_fetch_add(&asked_and_failed, 1);
        atomic_fetch_add(&asked, 1);
    }
    return arg;
}

START_TEST(rules_change_under_calls) {
    pthread_t threads[2];
    stel__fault_set(STEL__FAULT_UNLINK, 1, EIO, true);
    atomic_store(&none_may_pass, true);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, ask_on_and_on, NULL), 0);
    EVENTUALLY(atomic_load(&asked) > 0);
    for (uint64_t i = 0; i < test_scale(100000); i++)
        stel__fault_set(STEL__FAULT_UNLINK, 1, EIO, true);
    atomic_store(&asking_ends, true);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);

    stel__fault_clear();
    atomic_store(&asking_ends, false);
    atomic_store(&none_may_pass, false);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, ask_on_and_on, NULL), 0);
    for (int i = 0; i < 100; i++) {
        stel__fault_set(STEL__FAULT_UNLINK, 1 + (uint64_t)i % 3, EIO, false);
        EVENTUALLY(atomic_load(&asked_and_failed) > i);
    }
    atomic_store(&asking_ends, true);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    ck_assert_int_eq(atomic_load(&asked_and_failed), 100);
}
END_TEST

START_TEST(allocations_fail_too) {
    stel__fault_set(STEL__FAULT_ALLOC, 1, ENOMEM, false);
    void *p = stel__alloc(10);
    ck_assert_ptr_null(p);
    p = stel__alloc(100);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(((char *)p)[i], 0);
    stel__free(p);
    p = stel__alloc_aligned(4096, 100);
    ck_assert_uint_eq((uintptr_t)p % 4096, 0);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(((char *)p)[i], 0);
    stel__free(p);
    ck_assert_ptr_null(stel__alloc_aligned(64, SIZE_MAX - 10));
    stel__free(NULL);
}
END_TEST

START_TEST(rules_in_words) {
    ck_assert_int_eq(stel__fault_parse("mmap:1:ENOMEM,pthread_create:2+:EAGAIN"), 0);
    void *p;
    ck_assert_int_eq(stel__sys_mmap(&p, NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), -ENOMEM);
    ck_assert_int_eq(stel__sys_mmap(&p, NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 0);
    ck_assert_int_eq(stel__sys_munmap(p, 4096), 0);
    ck_assert_int_eq(stel__fault_parse("getaddrinfo:1:-3"), 0);
    struct addrinfo *found;
    ck_assert_int_eq(stel__sys_getaddrinfo("127.0.0.1", NULL, NULL, &found), EAI_AGAIN);
    static const char *const wrong[] = { "mmap",          "mmap:1",      "mmap:0:EIO",   "mmap:x:EIO", "mmap:1:EWHAT",
                                         "unheard:1:EIO", "mmap:1-:EIO", "mmap:1:EIO,,", ":1:EIO",     "mmap:1:" };
    for (size_t i = 0; i < STEL__COUNT_OF(wrong); i++)
        ck_assert_msg(stel__fault_parse(wrong[i]) == -EINVAL, "%s", wrong[i]);
}
END_TEST

/* The environment is read at the first call: in a program started afresh, this one. */
START_TEST(rules_from_the_environment) {
    if (test_emulated()) {
        puts("rules_from_the_environment: left out: under an emulator the program cannot start itself");
        return;
    }
    char program[512], command[1024];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    ck_assert_int_gt(n, 0);
    program[n] = 0;
    static const struct {
        const char *rules;
        int status;
    } cases[] = { { "open:2:EACCES", EACCES }, { "open:1:EACCES", 100 }, { "open:2:EIO,read:1:EIO", EIO } };
    for (size_t i = 0; i < STEL__COUNT_OF(cases); i++) {
        snprintf(command, sizeof command, "STELLANE_FAULT=%s '%s' open-twice", cases[i].rules, program);
        int status = system(command);
        ck_assert(WIFEXITED(status));
        ck_assert_int_eq(WEXITSTATUS(status), cases[i].status);
    }
    snprintf(command, sizeof command, "STELLANE_FAULT=nonsense '%s' open-twice 2>/dev/null", program);
    int status = system(command);
    ck_assert(WIFSIGNALED(status) || WEXITSTATUS(status) > 128);
}
END_TEST

static const char *open_twice_if_asked(void) {
    char text[256] = { 0 };
    FILE *f = fopen("/proc/self/cmdline", "r");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0, first = strlen(text) + 1;
    if (f) fclose(f);
    if (first < n && strcmp(text + first, "open-twice") == 0) {
        if (stel__sys_open("/dev/null", O_RDONLY, 0) < 0) _exit(100);
        int rc = stel__sys_open("/dev/null", O_RDONLY, 0);
        _exit(rc < 0 ? -rc : 101);
    }
    return NULL;
}

TEST_MAIN_IF(open_twice_if_asked, "host/sys", results_are_codes, data_calls, interrupted_calls, waits_are_never_short,
             the_nth_call_fails, rules_change_under_calls, allocations_fail_too, rules_in_words,
             rules_from_the_environment)
