/* scatter_gather: three back ends asked for the parts of one page, under one deadline.
 *
 * The idea: structured concurrency. The function that is called three times in order is spawned three times into a
 * scope: the block is not left before all three have ended, the children have the deadline of who opened it, and nothing
 * is left running whatever happens. A scope comes in two kinds:
 *   - STEL_SCOPE: all or nothing. The first failure cancels the others and is what the join returns.
 *   - with STEL_SCOPE_COLLECT: what there is. A failure leaves the others alone; each part's code says whether it came.
 *
 *     cc scatter_gather.c $(pkg-config --cflags --libs stellane-fiber) -o scatter_gather
 *     ./scatter_gather 1000                             deadline in milliseconds; with back ends of its own
 *     ./scatter_gather 1000 host:1 host:2 host:3        with yours: asked "user 100\n" they answer a line in 100 ms
 *
 * It prints three rounds; in the third the settings take longer than the deadline allows:
 *
 *     in order: user=Ada settings=dark preferences=tea: success, 304 ms
 *     in parallel: user=Ada settings=dark preferences=tea: success, 101 ms
 *     what there is: user=Ada settings=? preferences=tea: time has run out (ETIMEDOUT), 1000 ms */
#define _DEFAULT_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <stellane/stellane.h>
#include <string.h>

enum { PARTS = 3, USUAL_MS = 100, LATE_MS = 60000 };

struct part {
    const char *name, *address;
    int delay_ms; /* how long its back end shall take */
    int code;     /* 0: value is there */
    char value[48];
};

/* A line without its end, into `line`; more than fits is an error. */
static int read_line(int fd, char *line, size_t bytes) {
    size_t used = 0;
    for (;;) {
        ssize_t n = stel_read(fd, line + used, bytes - used);
        if (n <= 0) return n < 0 ? (int)n : -ENODATA;
        used += (size_t)n;
        char *end = memchr(line, '\n', used);
        if (end) {
            *end = '\0';
            return 0;
        }
        if (used == bytes) return -EMSGSIZE;
    }
}

/* Ask one back end: the same function for a call and for a fiber. The deadline is the caller's, or the scope's. */
static int ask(void *arg) {
    struct part *part = arg;
    char question[64];
    int n = snprintf(question, sizeof question, "%s %d\n", part->name, part->delay_ms);
    int fd = stel_dial(part->address);
    part->code = fd < 0 ? fd : stel_write_all(fd, question, (size_t)n, NULL);
    if (part->code == 0) part->code = read_line(fd, part->value, sizeof part->value);
    if (fd >= 0) stel_close(fd);
    return part->code;
}

static int in_order(struct part *parts) {
    int rc = 0;
    for (int i = 0; i < PARTS && rc == 0; i++)
        rc = ask(&parts[i]);
    return rc;
}

static int in_parallel(struct part *parts) {
    STEL_SCOPE(all); /* however the block is left: not before all have ended */
    for (int i = 0; i < PARTS; i++) {
        int rc = stel_scope_spawn(&all, ask, &parts[i]);
        if (rc < 0) return rc; /* or a part has failed already: then this is its code */
    }
    return stel_scope_join(&all);
}

static int what_there_is(struct part *parts) {
    STEL_SCOPE_WITH(all, STEL_SCOPE_COLLECT);
    for (int i = 0; i < PARTS; i++) {
        int rc = stel_scope_spawn(&all, ask, &parts[i]);
        if (rc < 0) parts[i].code = rc;
    }
    return stel_scope_join(&all);
}

static int gather(const char *title, int (*how)(struct part *), struct part *parts, int64_t limit_ns) {
    int64_t start = stel_now();
    int rc;
    for (int i = 0; i < PARTS; i++)
        parts[i].code = -ECANCELED; /* until it has been asked */
    {
        STEL_TIMEOUT(limit_ns); /* for the three together, in order or not */
        rc = how(parts);
    }
    printf("%s:", title);
    for (int i = 0; i < PARTS; i++)
        printf(" %s=%s", parts[i].name, parts[i].code == 0 ? parts[i].value : "?");
    printf(": %s, %.0f ms\n", stel_strerror(rc), (double)(stel_now() - start) / 1e6);
    return rc;
}

/* ---- back ends for those who have none at hand ---- */

struct back_end {
    int listener;
    const char *value;
    char address[STEL_ADDRESS_BYTES];
};

static int answer_all(void *arg) {
    const struct back_end *b = arg;
    char line[64];
    int fd;
    while ((fd = stel_accept(b->listener, NULL, NULL)) >= 0) {
        int rc = read_line(fd, line, sizeof line);
        const char *delay = rc == 0 ? strchr(line, ' ') : NULL;
        if (delay) rc = stel_sleep(STEL_MS(atoi(delay)));
        int n = snprintf(line, sizeof line, "%s\n", b->value);
        if (rc == 0) rc = stel_write_all(fd, line, (size_t)n, NULL);
        stel_close(fd);
        if (rc == -ECANCELED) break; /* other errors are the visitor's affair */
    }
    stel_close(b->listener);
    return 0;
}

static int start_back_end(struct back_end *b) {
    if ((b->listener = stel_listen("127.0.0.1:0", 16)) < 0) return b->listener;
    int rc = stel_local_address(b->listener, b->address, sizeof b->address);
    if (rc < 0) {
        stel_close(b->listener);
        return rc;
    }
    /* In the background: it does not keep the program alive, and is cancelled when the others have ended. */
    stel_spawn_options options = STEL_SPAWN_OPTIONS_INIT;
    options.name = "back end";
    options.flags = STEL_BACKGROUND;
    rc = stel_spawn_with(NULL, &options, answer_all, b);
    if (rc < 0) stel_close(b->listener);
    return rc;
}

struct plan {
    int64_t limit_ns;
    struct part parts[PARTS];
    struct back_end own[PARTS]; /* in main's frame: outlives every fiber */
};

static int app(void *arg) {
    struct plan *plan = arg;
    struct part *user = &plan->parts[0], *settings = &plan->parts[1];
    for (int i = 0; i < PARTS; i++) {
        if (plan->parts[i].address) continue;
        int rc = start_back_end(&plan->own[i]);
        if (rc < 0) return rc;
        plan->parts[i].address = plan->own[i].address;
    }
    int ordered = gather("in order", in_order, plan->parts, plan->limit_ns);
    int parallel = gather("in parallel", in_parallel, plan->parts, plan->limit_ns);
    settings->delay_ms = LATE_MS;
    int rest = gather("what there is", what_there_is, plan->parts, plan->limit_ns);
    if (ordered < 0 || parallel < 0) return ordered < 0 ? ordered : parallel;
    return user->code < 0 ? rest : 0; /* a page without settings can be shown, one without a user cannot */
}

int main(int argc, char **argv) {
    struct plan plan = { STEL_MS(argc > 1 ? atoi(argv[1]) : 1000),
                         { { .name = "user" }, { .name = "settings" }, { .name = "preferences" } },
                         { { .value = "Ada" }, { .value = "dark" }, { .value = "tea" } } };
    if ((argc > 2 && argc != 2 + PARTS) || plan.limit_ns <= 0) {
        fprintf(stderr, "usage: scatter_gather [deadline-ms [user-address settings-address preferences-address]]\n");
        return 2;
    }
    for (int i = 0; i < PARTS; i++) {
        plan.parts[i].delay_ms = USUAL_MS;
        if (argc > 2) plan.parts[i].address = argv[2 + i];
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    int rc = stel_run(app, &plan);
    if (rc < 0) fprintf(stderr, "scatter_gather: %s\n", stel_strerror(rc));
    return rc < 0;
}
