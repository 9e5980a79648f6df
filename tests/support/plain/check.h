/* A stand-in for libcheck where there is none for the target (cross builds): the part of its interface that our tests
 * use, so that the same test files are plain programs. Each test runs in a process of its own, in a process group that
 * is killed when it ends; CK_FORK=no, CK_RUN_CASE and CK_TIMEOUT_MULTIPLIER mean what libcheck's manual says. */
#ifndef PLAIN_CHECK_H
#define PLAIN_CHECK_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef struct TTest {
    const char *name;
    void (*fn)(int);
    const char *file;
    int line;
} TTest;

#define START_TEST(test)                                                                                               \
    static void test##_fn(int);                                                                                        \
    static const TTest test##_test = { #test, test##_fn, __FILE__, __LINE__ };                                         \
    static const TTest *test = &test##_test;                                                                           \
    static void test##_fn(int _i __attribute__((unused)))
#define END_TEST

/* ---- running ---- */

typedef struct TCase TCase;
typedef struct Suite Suite;
typedef struct SRunner SRunner;
enum print_output { CK_ENV };

TCase *tcase_create(const char *name);
void tcase_set_timeout(TCase *tcase, double seconds);
void tcase_add_test(TCase *tcase, const TTest *test); /* one a case */
Suite *suite_create(const char *name);
void suite_add_tcase(Suite *suite, TCase *tcase);
SRunner *srunner_create(Suite *suite);
void srunner_run_all(SRunner *runner, enum print_output output);
int srunner_ntests_failed(SRunner *runner);
int srunner_ntests_run(SRunner *runner);
void srunner_free(SRunner *runner); /* with its suite and the cases */

/* ---- assertions ---- */

_Noreturn void plain_check_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void plain_check_int(const char *file, int line, const char *text, intmax_t have, intmax_t want, bool good);
void plain_check_uint(const char *file, int line, const char *text, uintmax_t have, uintmax_t want, bool good);
void plain_check_ptr(const char *file, int line, const char *text, const void *have, const void *want, bool good);
void plain_check_str(const char *file, int line, const char *text, const char *have, const char *want, bool equal);

#define ck_abort_msg(...)             plain_check_fail(__FILE__, __LINE__, __VA_ARGS__)
#define ck_assert_msg(condition, ...) ((condition) ? (void)0 : plain_check_fail(__FILE__, __LINE__, __VA_ARGS__))
#define ck_assert(condition)          ck_assert_msg(condition, "%s does not hold", #condition)

#define PLAIN_CHECK_COMPARE(kind, type, have, relation, want)                                                          \
    do {                                                                                                               \
        type have_ = (have);                                                                                           \
        type want_ = (want);                                                                                           \
        plain_check_##kind(__FILE__, __LINE__, #have " " #relation " " #want, have_, want_, have_ relation want_);     \
    } while (0)
#define ck_assert_int_eq(have, want)  PLAIN_CHECK_COMPARE(int, intmax_t, have, ==, want)
#define ck_assert_int_ne(have, want)  PLAIN_CHECK_COMPARE(int, intmax_t, have, !=, want)
#define ck_assert_int_lt(have, want)  PLAIN_CHECK_COMPARE(int, intmax_t, have, <, want)
#define ck_assert_int_le(have, want)  PLAIN_CHECK_COMPARE(int, intmax_t, have, <=, want)
#define ck_assert_int_gt(have, want)  PLAIN_CHECK_COMPARE(int, intmax_t, have, >, want)
#define ck_assert_int_ge(have, want)  PLAIN_CHECK_COMPARE(int, intmax_t, have, >=, want)
#define ck_assert_uint_eq(have, want) PLAIN_CHECK_COMPARE(uint, uintmax_t, have, ==, want)
#define ck_assert_uint_ne(have, want) PLAIN_CHECK_COMPARE(uint, uintmax_t, have, !=, want)
#define ck_assert_uint_lt(have, want) PLAIN_CHECK_COMPARE(uint, uintmax_t, have, <, want)
#define ck_assert_uint_le(have, want) PLAIN_CHECK_COMPARE(uint, uintmax_t, have, <=, want)
#define ck_assert_uint_gt(have, want) PLAIN_CHECK_COMPARE(uint, uintmax_t, have, >, want)
#define ck_assert_uint_ge(have, want) PLAIN_CHECK_COMPARE(uint, uintmax_t, have, >=, want)
#define ck_assert_ptr_eq(have, want)  PLAIN_CHECK_COMPARE(ptr, const void *, have, ==, want)
#define ck_assert_ptr_ne(have, want)  PLAIN_CHECK_COMPARE(ptr, const void *, have, !=, want)
#define ck_assert_ptr_null(have)      ck_assert_ptr_eq(have, NULL)
#define ck_assert_ptr_nonnull(have)   ck_assert_ptr_ne(have, NULL)
#define ck_assert_str_eq(have, want)  plain_check_str(__FILE__, __LINE__, #have " == " #want, have, want, true)
#define ck_assert_str_ne(have, want)  plain_check_str(__FILE__, __LINE__, #have " != " #want, have, want, false)
#define ck_assert_mem_eq(have, want, bytes)                                                                            \
    ck_assert_msg(memcmp(have, want, bytes) == 0, "%s and %s differ in their %zu bytes", #have, #want, (size_t)(bytes))

#endif
