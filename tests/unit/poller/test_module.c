/* Backends that are modules: found, loaded, refused; what is remembered. */
#include "check_fiber.h"
#include "poller/inside.h"
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef TEST_MODULES
#define TEST_MODULES "" /* a build without them: all is skipped */
#endif

static const char *why_not(void) {
    return *TEST_MODULES ? NULL : "the modules are not built";
}

static char why[256];

/* What probing a name says. */
static int ask(const char *path, const char *name) {
    ck_assert_int_eq(setenv("STELLANE_MODULE_PATH", path, 1), 0);
    int rc = stel_backend_probe(name, why, sizeof why);
    ck_assert_int_eq(stel_backend_has(name), rc == 0);
    return rc;
}

static bool listed(const char *name) {
    const char *names[16];
    size_t n = stel_backend_list(names, 16);
    for (size_t i = 0; i < n; i++)
        if (!strcmp(names[i], name)) return true;
    return false;
}

START_TEST(a_good_one) {
    ck_assert(!listed("good"));
    ck_assert_int_eq(ask(TEST_MODULES, "good"), 0);
    ck_assert_str_eq(why, "host of abi 2");
    ck_assert(listed("good"));
    ck_assert_int_eq(ask("/nowhere", "good"), 0); /* it stays */
    ck_assert_int_eq(stel_backend_register("good", &stel__epoll_ops), -EEXIST);
}
END_TEST

START_TEST(bad_ones) {
    struct {
        const char *name, *words;
    } all[] = { { "old", "made for abi 1, and this library has 2" },
                { "mute", "it has no function stel_backend_module" },
                { "refusing", "does not want to work with this library" },
                { "incomplete", "table of functions is not complete" } };
    for (int again = 0; again < 2; again++) /* the second time from memory: the path leads nowhere */
        for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
            ck_assert_int_eq(ask(again ? "/nowhere" : TEST_MODULES, all[i].name), -ELIBBAD);
            if (!strstr(why, all[i].words)) ck_abort_msg("%s: %s", all[i].name, why);
            ck_assert(!listed(all[i].name));
        }
}
END_TEST

/* Not there, then there: what was not found is looked for again. What is no module stays none. */
START_TEST(found_later) {
    char directory[] = "modules-XXXXXX", path[PATH_MAX], target[PATH_MAX];
    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(ask(directory, "good"), -ENOENT);
    ck_assert_ptr_nonnull(strstr(why, "there is no stellane-backend-good.so in modules-"));
    snprintf(path, sizeof path, "%s/stellane-backend-good.so", directory);
    snprintf(target, sizeof target, "%s/stellane-backend-good.so", TEST_MODULES);
    ck_assert_int_eq(symlink(target, path), 0);
    char list[PATH_MAX];
    snprintf(list, sizeof list, "/nowhere::%s:/tmp", directory);
    ck_assert_int_eq(ask(list, "good"), 0);
    ck_assert_int_eq(unlink(path), 0);

    snprintf(path, sizeof path, "%s/stellane-backend-text.so", directory);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    ck_assert_int_eq(write(fd, "no module", 9), 9);
    close(fd);
    ck_assert_int_eq(ask(directory, "text"), -ELIBBAD);
    ck_assert_ptr_nonnull(strstr(why, "stellane-backend-text.so"));
    ck_assert_int_eq(unlink(path), 0);
    snprintf(path, sizeof path, "%s/stellane-backend-directory.so", directory);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    ck_assert_int_eq(ask(directory, "directory"), -ELIBBAD);
    ck_assert_int_eq(rmdir(path), 0);
    ck_assert_int_eq(rmdir(directory), 0);
}
END_TEST

START_TEST(names) {
    static const char *const none[] = { "",        "Good",   "../good",
                                        "good.so", "a name", "auto",
                                        "good-",   "/good",  "abcdefghijklmnopqrstuvwxyz_012345" };
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        ck_assert_int_eq(ask(TEST_MODULES, none[i]), -ENOENT);
        ck_assert_str_eq(why, "no backend has this name");
    }
    ck_assert_int_eq(ask("", "nowhere_at_all"),
                     -ENOENT); /* unset: beside the library, or where it would be installed */
    ck_assert_ptr_nonnull(strstr(why, "/stellane"));
}
END_TEST

START_TEST(a_runtime_that_wants_one) {
    stel_config c;
    stel_runtime *rt = NULL;
    stel_config_init(&c);
    c.worker_threads = 1;
    strcpy(c.backend, "refusing");
    ck_assert_int_eq(setenv("STELLANE_MODULE_PATH", TEST_MODULES, 1), 0);
    ck_assert_int_eq(stel_runtime_create(&rt, &c), -EINVAL);
    strcpy(c.backend, "good");
    ck_assert_int_eq(stel_runtime_create(&rt, &c), 0);
    ck_assert_int_eq(stel_runtime_destroy(rt), 0);
}
END_TEST

static void *ask_for_good(void *arg) {
    (void)arg;
    char text[64];
    FIBER_ASSERT_EQ(stel_backend_probe("good", text, sizeof text), 0);
    FIBER_ASSERT_EQ(stel_backend_probe("mute", text, sizeof text), -ELIBBAD);
    return NULL;
}

START_TEST(many_at_once) {
    pthread_t threads[4];
    ck_assert_int_eq(setenv("STELLANE_MODULE_PATH", TEST_MODULES, 1), 0);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, ask_for_good, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}
END_TEST

TEST_MAIN_IF(why_not, "poller/module", a_good_one, bad_ones, found_later, names, a_runtime_that_wants_one, many_at_once)
