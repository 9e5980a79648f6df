/* One io_uring: setting it up, its queues, entering the kernel. */
#include "check_fiber.h"
#include "host/fault.h"
#include "poller/inside.h"
#include "poller/ring.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const unsigned best[] = {
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_R_DISABLED, 0
};

static const char *why_not(void) {
    static char why[128];
    return stel__io_uring_ops.probe(why, sizeof why) < 0 ? why : NULL;
}

static void open_ring(stel__ring *r, unsigned sq, unsigned cq) {
    FIBER_OK(stel__ring_open(r, sq, cq, best, 2));
    FIBER_OK(stel__ring_enable(r));
}

static void put_nop(stel__ring *r, uint64_t data) {
    struct io_uring_sqe *sqe = stel__ring_sqe(r);
    ck_assert_ptr_nonnull(sqe);
    sqe->opcode = IORING_OP_NOP;
    sqe->user_data = data;
}

START_TEST(queues) {
    stel__ring r;
    open_ring(&r, 8, 16);
    ck_assert_uint_eq(r.sq_entries, 8);
    ck_assert_ptr_null(stel__ring_cqe(&r));
    ck_assert_uint_eq(stel__ring_unsubmitted(&r), 0);
    /* Around the queue more than once, each entry taken and told of, in order. */
    uint64_t next = 1000, expected = 1000;
    for (int round = 0; round < 10; round++) {
        unsigned n = 1 + (unsigned)round % 8;
        for (unsigned i = 0; i < n; i++)
            put_nop(&r, next++);
        ck_assert_uint_eq(stel__ring_unsubmitted(&r), n);
        stel__ring_publish(&r);
        ck_assert_int_eq(stel__ring_enter(&r, n, STEL_FOREVER), (int)n);
        ck_assert_uint_eq(stel__ring_unsubmitted(&r), 0);
        for (const struct io_uring_cqe *cqe; (cqe = stel__ring_cqe(&r)); stel__ring_seen(&r)) {
            ck_assert_uint_eq(cqe->user_data, expected++);
            ck_assert_int_eq(cqe->res, 0);
        }
        ck_assert_uint_eq(expected, next);
    }
    for (unsigned i = 0; i < 8; i++)
        put_nop(&r, i);
    ck_assert_ptr_null(stel__ring_sqe(&r)); /* full */
    stel__ring_publish(&r);
    ck_assert_int_eq(stel__ring_submit(&r, 3), 3); /* so many are free again */
    ck_assert_uint_eq(stel__ring_unsubmitted(&r), 5);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_ptr_nonnull(stel__ring_sqe(&r));
    ck_assert_ptr_null(stel__ring_sqe(&r));
    stel__ring_close(&r);
    ck_assert_int_eq(r.fd, -1);
    stel__ring_close(&r); /* again is nothing */
}
END_TEST

START_TEST(completions_without_room) {
    stel__ring r;
    open_ring(&r, 8, 8);
    uint64_t expected = 0;
    for (unsigned i = 0; i < 40; i++) {
        put_nop(&r, i);
        stel__ring_publish(&r);
        ck_assert_int_eq(stel__ring_submit(&r, 1), 1);
    }
    ck_assert(stel__ring_holds_back(&r));
    while (expected < 40) {
        for (const struct io_uring_cqe *cqe; (cqe = stel__ring_cqe(&r)); stel__ring_seen(&r))
            ck_assert_uint_eq(cqe->user_data, expected++);
        ck_assert_int_ge(stel__ring_enter(&r, 0, 0), 0);
    }
    ck_assert(!stel__ring_holds_back(&r));
    stel__ring_close(&r);
}
END_TEST

START_TEST(time_limits) {
    stel__ring r;
    open_ring(&r, 8, 16);
    ck_assert_int_eq(stel__ring_enter(&r, 0, 0), 0);
    int64_t before = stel_now();
    ck_assert_int_eq(stel__ring_enter(&r, 0, before + STEL_MS(10)), -ETIME);
    ck_assert(stel_now() - before >= STEL_MS(10));
    ck_assert_int_eq(stel__ring_enter(&r, 0, before), -ETIME); /* passed already */
    ck_assert_int_eq(stel__ring_enter(&r, 0, 1), -ETIME);
    stel__ring_close(&r);
}
END_TEST

START_TEST(setting_up) {
    static const unsigned unknown[] = { 1u << 31, 1u << 30 };
    static const unsigned second[] = { 1u << 31, IORING_SETUP_SUBMIT_ALL };
    int descriptors = test_open_descriptors();
    stel__ring r;
    ck_assert_int_eq(stel__ring_open(&r, 8, 16, unknown, 2), -EOPNOTSUPP);
    ck_assert_int_eq(stel__ring_open(&r, 8, 16, second, 2), 0); /* the next best */
    ck_assert(r.setup_flags & IORING_SETUP_SUBMIT_ALL);
    FIBER_OK(stel__ring_enable(&r)); /* nothing to do */
    stel__ring_close(&r);
    static const struct {
        enum stel__fault_kind kind;
        uint64_t nth;
        int error, result;
    } faults[] = {
        { STEL__FAULT_IO_URING_SETUP, 1, EPERM, -EPERM },
        { STEL__FAULT_IO_URING_SETUP, 1, ENOSYS, -ENOSYS },
        { STEL__FAULT_IO_URING_SETUP, 1, EMFILE, -EMFILE },
        { STEL__FAULT_MMAP, 1, ENOMEM, -ENOMEM },
        { STEL__FAULT_MMAP, 2, EPERM, -EPERM },
        { STEL__FAULT_IO_URING_REGISTER, 1, EPERM, -EPERM },
        { STEL__FAULT_IO_URING_REGISTER, 1, EINVAL, -EOPNOTSUPP },
    };
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        stel__fault_set(faults[i].kind, faults[i].nth, faults[i].error, false);
        ck_assert_int_eq(stel__ring_open(&r, 8, 16, best, 2), faults[i].result);
        ck_assert_int_eq(r.fd, -1);
        stel__fault_clear();
    }
    /* Memory for a smaller one: 64, 16, 8 entries, then there is none. */
    stel__fault_set(STEL__FAULT_IO_URING_SETUP, 1, ENOMEM, false);
    ck_assert_int_eq(stel__ring_open(&r, 64, 512, best, 2), 0);
    ck_assert_uint_eq(r.sq_entries, 16);
    ck_assert_uint_eq(r.cq_mask, 127);
    stel__ring_close(&r);
    stel__fault_clear();
    stel__fault_set(STEL__FAULT_IO_URING_SETUP, 1, ENOMEM, true);
    ck_assert_int_eq(stel__ring_open(&r, 64, 512, best, 2), -ENOMEM);
    ck_assert_uint_eq(stel__fault_calls(STEL__FAULT_IO_URING_SETUP), 3);
    stel__fault_clear();
    ck_assert_int_eq(test_open_descriptors(), descriptors);
}
END_TEST

START_TEST(entries) {
    stel__ring r;
    open_ring(&r, 8, 16);
    ck_assert(!stel__ring_does(&r, 0));
    ck_assert(!stel__ring_does(&r, STEL_OPERATIONS));
    ck_assert(!stel__ring_does(&r, 60000));
    ck_assert(stel__ring_does(&r, STEL_OPERATION_POLL));
    ck_assert(stel__ring_can_cancel(&r));
    memset(r.operations, 0, sizeof r.operations); /* what a probe that knows nothing leaves */
    for (unsigned code = 0; code <= STEL_OPERATIONS; code++)
        ck_assert(!stel__ring_does(&r, code));
    ck_assert(!stel__ring_can_cancel(&r));
    stel__ring_close(&r);
    /* A length that does not fit is cut, as read(2) does. */
    struct io_uring_sqe sqe = { 0 };
    stel_operation op = { .code = STEL_OPERATION_RECV, .fd = 3, .length = UINT64_C(1) << 40, .flags = 7 };
    stel__ring_fill(&sqe, &op);
    ck_assert_uint_eq(sqe.len, INT32_MAX);
    ck_assert_uint_eq(sqe.msg_flags, 7);
    ck_assert_uint_eq(sqe.user_data, (uintptr_t)&op);
}
END_TEST

TEST_MAIN_IF(why_not, "poller/ring", queues, completions_without_room, time_limits, setting_up, entries)
