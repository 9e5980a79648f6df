/* stel_strerror and stel_version: every code has words of its own, and unknown ones say so. */
#include "check_fiber.h"
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

START_TEST(every_errno_value) {
    int known = 0;
    for (int e = 1; e < 200; e++) {
        const char *theirs = strerrorname_np(e), *ours = stel_strerror(-e);
        ck_assert_ptr_nonnull(ours);
        if (!theirs) {
            ck_assert_str_eq(ours, "unknown error");
            continue;
        }
        char name[64];
        snprintf(name, sizeof name, " (%s)", strcmp(theirs, "ENOTSUP") == 0 ? "EOPNOTSUPP" : theirs);
        size_t n = strlen(ours), end = strlen(name);
        ck_assert_msg(n > end && strcmp(ours + n - end, name) == 0, "%d: %s does not end in %s", e, ours, name);
        ck_assert_ptr_eq(ours, stel_strerror(-e)); /* the same for every caller */
        known++;
    }
    ck_assert_int_ge(known, 131);
}
END_TEST

START_TEST(resolver_codes) {
    static const int codes[] = {
        EAI_BADFLAGS, EAI_NONAME,  EAI_AGAIN,      EAI_FAIL,        EAI_FAMILY, EAI_SOCKTYPE,
        EAI_SERVICE,  EAI_MEMORY,  EAI_SYSTEM,     EAI_OVERFLOW,    EAI_NODATA, EAI_ADDRFAMILY,
        EAI_CANCELED, EAI_ALLDONE, EAI_INPROGRESS, EAI_NOTCANCELED, EAI_INTR,   EAI_IDN_ENCODE
    };
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        const char *words = stel_strerror(STEL_EAI(codes[i]));
        ck_assert_ptr_nonnull(strstr(words, "(EAI_"));
        for (size_t j = 0; j < i; j++)
            ck_assert_str_ne(words, stel_strerror(STEL_EAI(codes[j])));
    }
    ck_assert_ptr_nonnull(strstr(stel_strerror(STEL_EAI(EAI_NONAME)), "EAI_NONAME"));
}
END_TEST

START_TEST(nothing_else) {
    ck_assert_str_eq(stel_strerror(0), "success");
    ck_assert_str_eq(stel_strerror(1), "unknown error");
    ck_assert_str_eq(stel_strerror(EINVAL), "unknown error");
    ck_assert_str_eq(stel_strerror(-4000), "unknown error");
    ck_assert_str_eq(stel_strerror(STEL_EAI(-99)), "unknown error");
    ck_assert_str_eq(stel_strerror(STEL_EAI(0)), "unknown error");
    ck_assert_str_eq(stel_strerror(INT32_MIN), "unknown error");
    ck_assert_str_eq(stel_strerror(INT32_MAX), "unknown error");
}
END_TEST

START_TEST(version) {
    char from_numbers[32];
    snprintf(from_numbers, sizeof from_numbers, "%d.%d.%d", STEL_VERSION_MAJOR, STEL_VERSION_MINOR, STEL_VERSION_PATCH);
    ck_assert_str_eq(stel_version(), STEL_VERSION);
    ck_assert_str_eq(stel_version(), from_numbers);
}
END_TEST

TEST_MAIN("base/strerror", every_errno_value, resolver_codes, nothing_else, version)
