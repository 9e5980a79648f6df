/* The ladder of guards: each rung reached by making the one above it fail. Each case has a process of its own, as a
 * step down is for good. */
#include "host/fault.h"
#include "host/stack.h"
#include "in_child.h"
#include <signal.h>
#include <sys/mman.h>

static stel__stack_cache cache = { .limit = 64 };

static bool refused(const void *address) {
    int ends[2];
    FIBER_ASSERT(pipe(ends) == 0);
    bool no = write(ends[1], address, 1) < 0;
    close(ends[0]);
    close(ends[1]);
    return no;
}

static char *low_of(const stel__stack *s) {
    return stel__stack_low(s);
}

/* n stacks, guarded or not as they should be; their neighbours are usable. */
static void get_stacks(int n, bool guarded) {
    for (int i = 0; i < n; i++) {
        stel__stack *s = stel__stack_get(&cache, 2);
        FIBER_ASSERT(s);
        FIBER_ASSERT_EQ(refused(low_of(s) - 1), guarded);
        FIBER_ASSERT_EQ(stel__stack_of_guard(low_of(s) - 1) == s, guarded);
        memset(low_of(s), 1, (size_t)((char *)stel__stack_top(s) - low_of(s)));
    }
}

static uint64_t unguarded(void) {
    stel__stack_figures f;
    stel__stack_figures_get(&f);
    return f.unguarded;
}

/* Kernels without MADV_GUARD_INSTALL start on a lower rung. */
static bool has_guards;
static void look(void *out) {
    get_stacks(1, true);
    *(bool *)out = stel__guard_rung_now() <= STEL__GUARD_SINGLE;
}

static void best(void *unused) {
    (void)unused;
    get_stacks(200, true);
    FIBER_ASSERT_EQ(stel__guard_rung_now(), stel__sanitize_valgrind() ? STEL__GUARD_SINGLE : STEL__GUARD_BATCH);
    FIBER_ASSERT_EQ(unguarded(), 0);
}

static void batch_refused(void *error) {
    stel__fault_set(STEL__FAULT_PROCESS_MADVISE, 1, *(int *)error, true);
    get_stacks(200, true);
    FIBER_ASSERT_EQ(stel__guard_rung_now(), STEL__GUARD_SINGLE);
    FIBER_ASSERT_EQ(unguarded(), 0);
}

/* A kernel that does not know the number for "myself" is given a pidfd; when there is none, that batch goes down only.
 */
static void batch_through_pidfd(void *unused) {
    (void)unused;
    int before = test_open_descriptors();
    stel__fault_set(STEL__FAULT_PROCESS_MADVISE, 1, EBADF, false);
    get_stacks(1, true);
    FIBER_ASSERT_EQ(stel__fault_calls(STEL__FAULT_PIDFD_OPEN), 1);
    FIBER_ASSERT_EQ(stel__fault_calls(STEL__FAULT_PROCESS_MADVISE), 2);
    FIBER_ASSERT_EQ(test_open_descriptors(), before);
    stel__fault_clear();
    stel__fault_set(STEL__FAULT_PROCESS_MADVISE, 1, EBADF, false);
    stel__fault_set(STEL__FAULT_PIDFD_OPEN, 1, EMFILE, false);
    get_stacks(200, true);
    FIBER_ASSERT_EQ(stel__guard_rung_now(), STEL__GUARD_BATCH);
}

/* A lack of memory is of the moment. */
static void batch_short_of_memory(void *unused) {
    (void)unused;
    stel__fault_set(STEL__FAULT_PROCESS_MADVISE, 1, ENOMEM, false);
    get_stacks(200, true);
    FIBER_ASSERT_EQ(stel__guard_rung_now(), STEL__GUARD_BATCH);
}

static void single_refused(void *unused) {
    (void)unused;
    stel__fault_set(STEL__FAULT_PROCESS_MADVISE, 1, EPERM, true);
    /* The probe and each region's huge page advice use this call too: refuse it from the first guard on. */
    get_stacks(1, true);
    stel__fault_set(STEL__FAULT_MADVISE, 1, EINVAL, true);
    get_stacks(200, true);
    FIBER_ASSERT_EQ(stel__guard_rung_now(), STEL__GUARD_PROTECT);
    FIBER_ASSERT_EQ(unguarded(), 0);
}

static void probe_says_no(void *unused) {
    (void)unused;
    stel__fault_set(STEL__FAULT_MADVISE, 1, EINVAL, true);
    get_stacks(200, true);
    FIBER_ASSERT_EQ(stel__guard_rung_now(), STEL__GUARD_PROTECT);
}

/* An emulator that says yes and does nothing: the read does not fail with EFAULT. */
static void probe_is_not_believed(void *unused) {
    (void)unused;
    stel__fault_set(STEL__FAULT_FUTEX, 1, EAGAIN, false);
    get_stacks(200, true);
    FIBER_ASSERT_EQ(stel__guard_rung_now(), STEL__GUARD_PROTECT);
}

static void protect_refused(void *unused) {
    (void)unused;
    stel__fault_set(STEL__FAULT_MADVISE, 1, EINVAL, true);
    stel__fault_set(STEL__FAULT_MPROTECT, 5, ENOMEM, true);
    get_stacks(4, true);
    get_stacks(196, false);
    FIBER_ASSERT_EQ(stel__guard_rung_now(), STEL__GUARD_NONE);
    FIBER_ASSERT(unguarded() >= 196);
}

/* Not the kernel's limit but our share of it: half of the mappings a process may have. */
static void map_count_runs_out(void *unused) {
    (void)unused;
    stel__fault_set(STEL__FAULT_MADVISE, 1, EINVAL, true);
    stel__fault_set(STEL__FAULT_OPEN, 1, EACCES, true); /* the default of 65530 then */
    int guarded = 0, n = 0;
    for (; n < 20000; n++) {
        stel__stack *s = stel__stack_get(&cache, 0);
        FIBER_ASSERT(s);
        guarded += stel__stack_of_guard(low_of(s) - 1) == s;
    }
    FIBER_ASSERT_EQ(guarded, 65530 / 4);
    stel__fault_clear();
    void *more;
    FIBER_ASSERT_EQ(stel__sys_mmap(&more, NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 0);
}

static void canary_whole(void *unused) {
    (void)unused;
    stel__fault_set(STEL__FAULT_MADVISE, 1, EINVAL, true);
    stel__fault_set(STEL__FAULT_MPROTECT, 1, ENOMEM, true);
    for (int round = 0; round < 3; round++) {
        static stel__stack *s[300];
        for (int i = 0; i < 300; i++) {
            s[i] = stel__stack_get(&cache, 2);
            memset(low_of(s[i]), 0xff, (size_t)((char *)stel__stack_top(s[i]) - low_of(s[i])));
        }
        for (int i = 0; i < 300; i++)
            stel__stack_put(&cache, s[i]);
        stel__fault_clear();
        stel__stack_scavenge(); /* must leave the canaries alone */
        stel__stack_scavenge();
    }
}

static void canary_broken(void *unused) {
    (void)unused;
    stel__fault_set(STEL__FAULT_MADVISE, 1, EINVAL, true);
    stel__fault_set(STEL__FAULT_MPROTECT, 1, ENOMEM, true);
    stel__stack *s = stel__stack_get(&cache, 2);
    low_of(s)[-100] = 0;
    stel__stack_put(&cache, s);
}

static void setup(void) {
    static bool *shared;
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    in_child_ok(look, shared);
    has_guards = *shared;
    munmap(shared, 4096);
}

START_TEST(the_upper_rungs) {
    setup();
    if (!has_guards) return;
    in_child_ok(best, NULL);
    if (!stel__sanitize_valgrind()) {
        static int errors[] = { EPERM, ENOSYS, EINVAL };
        for (size_t i = 0; i < STEL__COUNT_OF(errors); i++)
            in_child_ok(batch_refused, &errors[i]);
        in_child_ok(batch_through_pidfd, NULL);
        in_child_ok(batch_short_of_memory, NULL);
    }
    in_child_ok(single_refused, NULL);
}
END_TEST

START_TEST(the_probe) {
    in_child_ok(probe_says_no, NULL);
    in_child_ok(probe_is_not_believed, NULL);
}
END_TEST

START_TEST(without_guards_it_says_so_once) {
    char text[4096];
    int status = in_child(protect_refused, NULL, text, sizeof text);
    ck_assert_msg(status == 0, "%s", text);
    const char *said = strstr(text, "stellane: stacks without guard pages");
    ck_assert_ptr_nonnull(said);
    ck_assert_ptr_null(strstr(said + 1, "stellane: stacks without guard pages"));
    if (!stel__sanitize_valgrind()) in_child_ok(map_count_runs_out, NULL);
}
END_TEST

START_TEST(canaries) {
    char text[4096];
    in_child_ok(canary_whole, NULL);
    int status = in_child(canary_broken, NULL, text, sizeof text);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    ck_assert_ptr_nonnull(strstr(text, "stellane: stack overflow: a fiber wrote below its stack of 64 KiB"));
}
END_TEST

TEST_MAIN("host/guard", the_upper_rungs, the_probe, without_guards_it_says_so_once, canaries)
