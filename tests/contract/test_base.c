/* The contract of stellane/base.h: times, codes, versions. What is for compilers and linkers is tested elsewhere:
 *
 *   elsewhere: contract_STEL_API: tools/symbols (what it marks is what the library exports, and nothing else)
 *   elsewhere: contract_STEL_MUST_CHECK: tests/contract/must_check.py (who ignores the result is warned)
 *   elsewhere: contract_STEL_BEGIN_DECLS: tests/install/use_cxx.cc (a C++ program finds the functions)
 *   elsewhere: contract_STEL_END_DECLS: tests/install/headers.sh (each header compiles alone as C++) */
#include "contract.h"
#include <netdb.h>
#include <time.h>

/* stel_now: nanoseconds of CLOCK_MONOTONIC, read afresh. */
ON_BOTH(contract_stel_now) {
    struct timespec t;
    int64_t before = stel_now();
    clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t clock = STEL_SEC(t.tv_sec) + t.tv_nsec, after = stel_now();
    IS(before <= clock && clock <= after);
}

/* stel_after: now and a length, which saturates at STEL_FOREVER and at the other end. */
ON_BOTH(contract_stel_after) {
    int64_t before = stel_now(), when = stel_after(STEL_SEC(1));
    IS(when >= before + STEL_SEC(1) && when <= stel_now() + STEL_SEC(1));
    IS(stel_after(LONG_PAST) < before);
    EQ(stel_after(STEL_FOREVER), STEL_FOREVER);
    EQ(stel_after(STEL_FOREVER - 1), STEL_FOREVER);
    IS(stel_after(INT64_MIN) < 0);
}

/* stel_strerror: words for every errno value, every resolver code and 0, the same for every caller; never NULL. */
ON_BOTH(contract_stel_strerror) {
    const char *unknown = stel_strerror(-123456);
    EQ(strcmp(unknown, "unknown error"), 0);
    EQ(strcmp(stel_strerror(1), unknown), 0);
    EQ(strcmp(stel_strerror(INT32_MIN), unknown), 0);
    for (int code = 0; code <= EHWPOISON; code++)
        if (code != 41 && code != 58) IS(strcmp(stel_strerror(-code), unknown) != 0); /* Linux leaves out these two */
    for (int code = EAI_OVERFLOW; code <= EAI_BADFLAGS; code++)
        if (code != -9 && code != -13) IS(stel_strerror(STEL_EAI(code)) != NULL);
    IS(strstr(stel_strerror(-ETIMEDOUT), "time") != NULL);
    IS(strstr(stel_strerror(STEL_EAI(EAI_NONAME)), "EAI_NONAME") != NULL);
    IS(strcmp(stel_strerror(-EINVAL), stel_strerror(-EPERM)) != 0);
    IS(stel_strerror(-EPIPE) == stel_strerror(-EPIPE));
}

/* stel_version: the version of the library that is loaded. */
ON_BOTH(contract_stel_version) {
    EQ(strcmp(stel_version(), STEL_VERSION), 0);
}

/* STEL_VERSION: major, minor and patch with points between them. */
START_TEST(contract_STEL_VERSION) {
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", STEL_VERSION_MAJOR, STEL_VERSION_MINOR, STEL_VERSION_PATCH);
    ck_assert_str_eq(text, STEL_VERSION);
}
END_TEST

/* STEL_VERSION_MAJOR: a number that the preprocessor can compare. */
START_TEST(contract_STEL_VERSION_MAJOR) {
#if STEL_VERSION_MAJOR < 0
    ck_abort_msg("below 0");
#endif
    ck_assert_int_eq(STEL_VERSION_MAJOR, atoi(stel_version()));
}
END_TEST

/* STEL_VERSION_MINOR: a number that the preprocessor can compare. */
START_TEST(contract_STEL_VERSION_MINOR) {
#if STEL_VERSION_MINOR < 0
    ck_abort_msg("below 0");
#endif
    ck_assert_int_eq(STEL_VERSION_MINOR, atoi(strchr(stel_version(), '.') + 1));
}
END_TEST

/* STEL_VERSION_PATCH: a number that the preprocessor can compare. */
START_TEST(contract_STEL_VERSION_PATCH) {
#if STEL_VERSION_PATCH < 0
    ck_abort_msg("below 0");
#endif
    ck_assert_int_eq(STEL_VERSION_PATCH, atoi(strrchr(stel_version(), '.') + 1));
}
END_TEST

/* STEL_FOREVER: the largest time; it never comes. */
IN_FIBER(contract_STEL_FOREVER) {
    EQ(STEL_FOREVER, INT64_MAX);
    stel_fiber f = spawn(until_cancelled, NULL);
    EQ(stel_sleep(STEL_MS(2)), 0);
    EQ(stel_try_join(f, NULL), -EAGAIN);
    OK(stel_cancel(f));
    EQ(join(f), -ECANCELED);
}

/* STEL_US: microseconds as int64_t nanoseconds, beyond what an int holds. */
START_TEST(contract_STEL_US) {
    ck_assert_int_eq(STEL_US(1), 1000);
    ck_assert_int_eq(STEL_US(3000000), INT64_C(3000000000));
    ck_assert_uint_eq(sizeof STEL_US(1), 8);
    ck_assert_int_eq(STEL_US(1 + 1), 2000);
}
END_TEST

/* STEL_MS: milliseconds as int64_t nanoseconds. */
START_TEST(contract_STEL_MS) {
    ck_assert_int_eq(STEL_MS(1), 1000000);
    ck_assert_int_eq(STEL_MS(5000), INT64_C(5000000000));
    ck_assert_int_eq(STEL_MS(2 - 1), STEL_US(1000));
}
END_TEST

/* STEL_SEC: seconds as int64_t nanoseconds. */
START_TEST(contract_STEL_SEC) {
    ck_assert_int_eq(STEL_SEC(1), 1000000000);
    ck_assert_int_eq(STEL_SEC(3600), INT64_C(3600000000000));
    ck_assert_int_eq(STEL_SEC(2 - 1), STEL_MS(1000));
}
END_TEST

/* STEL_EAI: a resolver's code, -20000 + EAI_x, apart from every errno value. */
START_TEST(contract_STEL_EAI) {
    ck_assert_int_eq(STEL_EAI(EAI_NONAME), -20000 + EAI_NONAME);
    ck_assert_int_lt(STEL_EAI(EAI_BADFLAGS), -4096);
}
END_TEST

static STEL_NORETURN void ends_process(int code) {
    _exit(code);
}
static int never_comes_back(void) {
    ends_process(0);
} /* no result, and no warning: compiled with -Wreturn-type, and -Werror where that is on */
static void calls_it(void) {
    IS(never_comes_back() == 1);
}

/* STEL_NORETURN: the compiler knows that the function does not return. */
START_TEST(contract_STEL_NORETURN) {
    in_forked_child(calls_it);
}
END_TEST

TEST_MAIN("contract/base", contract_STEL_NORETURN, contract_stel_now, contract_stel_after, contract_stel_strerror,
          contract_stel_version, contract_STEL_VERSION, contract_STEL_VERSION_MAJOR, contract_STEL_VERSION_MINOR,
          contract_STEL_VERSION_PATCH, contract_STEL_FOREVER, contract_STEL_US, contract_STEL_MS, contract_STEL_SEC,
          contract_STEL_EAI)
