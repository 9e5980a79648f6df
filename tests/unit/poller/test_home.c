/* Polling modes: where a descriptor is registered when each worker has a poller, and when the registration moves; what
 * the modes refuse; a backend that this machine forbids. */
#include "check_fiber.h"
#include "host/fault.h"
#include "io_sides.h"
#include "poller/inside.h"
#include <stellane/backend.h>

static stel_runtime *made(const char *backend, int mode, int workers, int *rc) {
    stel_config c;
    stel_runtime *rt = NULL;
    stel_config_init(&c);
    snprintf(c.backend, sizeof c.backend, "%s", backend);
    c.poller_mode = mode;
    c.worker_threads = workers;
    *rc = stel_runtime_create(&rt, &c);
    return rt;
}

static stel_stats stats_of(stel_runtime *rt) {
    stel_stats s;
    FIBER_OK(stel_runtime_stats(rt, &s));
    return s;
}

static void finish(stel_runtime *rt) {
    FIBER_OK(stel_runtime_stop(rt, STEL_SEC(5)));
    FIBER_OK(stel_runtime_destroy(rt));
}

/* ---- homes ---- */

static int fds[2];

static int read_one(void *arg) {
    char byte;
    (void)arg;
    return stel_read(fds[0], &byte, 1) == 1 ? byte : -1;
}

static const stel__poller *home(void) {
    int error;
    return stel__slot_at(fds[0], &error)->armed;
}

/* One wait on the descriptor by a fiber of that worker. */
static void wait_there(stel_runtime *rt, int worker, char byte) {
    const stel_spawn_options o = { .size = sizeof o, .place = STEL_WORKER(worker) };
    stel_fiber f;
    int got;
    FIBER_OK(stel_runtime_spawn(rt, &f, &o, read_one, NULL));
    AWAIT_PARKED(fds[0], 1);
    FIBER_ASSERT_EQ(write(fds[1], &byte, 1), 1);
    FIBER_OK(stel_join(f, &got));
    FIBER_ASSERT_EQ(got, byte);
}

START_TEST(a_descriptor_moves_to_who_uses_it) {
    int rc;
    stel_runtime *rt = made("epoll", STEL_POLLER_PER_WORKER, 2, &rc);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(stel_runtime_start(rt), 0);
    ck_assert_int_eq(stats_of(rt).poller_mode, STEL_POLLER_PER_WORKER);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    wait_there(rt, 0, 'a');
    const stel__poller *first = home();
    ck_assert_ptr_nonnull(first);
    for (char c = 'b'; c < 'i'; c++) { /* a guest seven times, and then its own */
        wait_there(rt, 1, c);
        ck_assert_ptr_eq(home(), first);
    }
    wait_there(rt, 0, 'i');
    for (char c = 'j'; c < 'q'; c++) {
        wait_there(rt, 1, c);
        ck_assert_ptr_eq(home(), first);
    }
    wait_there(rt, 1, 'q');
    const stel__poller *second = home();
    ck_assert_ptr_ne(second, first);
    wait_there(rt, 1, 'r');
    ck_assert_ptr_eq(home(), second);
    finish(rt);
    close(fds[0]);
    close(fds[1]);
}
END_TEST

/* ---- refusals ---- */

START_TEST(modes_that_do_not_fit) {
    int rc;
    stel_runtime *rt = made("epoll", 4, 1, &rc);
    ck_assert_int_eq(rc, -EINVAL);
    char why[128];
    if (stel_backend_probe("io_uring", why, sizeof why) < 0) {
        printf("io_uring's modes left out: %s\n", why);
        return;
    }
    rt = made("io_uring", STEL_POLLER_DEDICATED, 1, &rc);
    ck_assert_int_eq(rc, -EINVAL);
    rt = made("io_uring", STEL_POLLER_INLINE, 2, &rc);
    ck_assert_int_eq(rc, -EINVAL);
    rt = made("io_uring", 0, 2, &rc);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(stats_of(rt).poller_mode, STEL_POLLER_PER_WORKER);
    ck_assert_str_eq(stats_of(rt).backend_type, "io_uring");
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

/* ---- what was chosen, and why ---- */

START_TEST(a_forbidden_backend_gives_way) {
    int rc;
    stel__fault_set(STEL__FAULT_IO_URING_SETUP, 1, EPERM, true);
    stel_runtime *rt = made("io_uring", 0, 2, &rc);
    ck_assert_int_eq(rc, 0);
    stel_stats s = stats_of(rt);
    ck_assert_str_eq(s.backend_type, "epoll");
    ck_assert_int_eq(s.poller_mode, STEL_POLLER_DEDICATED);
    ck_assert_msg(strstr(s.backend_reason, "\"io_uring\" was asked for, but cannot be used here") != NULL, "%s",
                  s.backend_reason);
    ck_assert_msg(strstr(s.backend_reason, "files: offload pool") != NULL, "%s", s.backend_reason);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
    stel__fault_clear();
}
END_TEST

START_TEST(auto_says_why) {
    int rc;
    stel_runtime *rt = made("auto", 0, 1, &rc);
    ck_assert_int_eq(rc, 0);
    stel_stats s = stats_of(rt);
    ck_assert_str_eq(s.backend_type, "epoll");
    ck_assert_msg(strncmp(s.backend_reason, "auto: epoll", 11) == 0 && strstr(s.backend_reason, "; files: "), "%s",
                  s.backend_reason);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

TEST_MAIN("poller/home", a_descriptor_moves_to_who_uses_it, modes_that_do_not_fit, a_forbidden_backend_gives_way,
          auto_says_why)
