/* A fiber that holds its worker is reported on stderr, by name: it computes until the report is there. */
#include "check_fiber.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static FILE *report;

static bool reported(void) {
    char text[4096];
    ssize_t n = pread(fileno(report), text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = 0;
    return strstr(text, "\"hog\"") && strstr(text, "has held worker 0") && strstr(text, "computing");
}

static int hog(void *arg) {
    (void)arg;
    FIBER_OK(stel_set_name("hog"));
    int64_t give_up = stel_after(STEL_SEC(60));
    while (!reported())
        for (int64_t until = stel_after(STEL_MS(1)); stel_now() < until;)
            if (stel_now() > give_up) return 1;
    return 0;
}

START_TEST(computing) {
    stel_config c;
    stel_config_init(&c);
    c.worker_threads = 1;
    c.stall_ns = STEL_MS(5);
    ck_assert_ptr_nonnull(report = tmpfile());
    int saved = dup(STDERR_FILENO);
    ck_assert_int_ge(dup2(fileno(report), STDERR_FILENO), 0);
    int result = run_in_runtime_with(&c, hog, NULL);
    ck_assert_int_ge(dup2(saved, STDERR_FILENO), 0);
    ck_assert_int_eq(result, 0);
    close(saved);
    fclose(report);
}
END_TEST

TEST_MAIN("runtime/stall", computing)
