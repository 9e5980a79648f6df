/* The fault seam's rules: one slot a kind, set by tests or from STELLANE_FAULT. See fault.h. Exact under threads: each
 * call of an armed kind draws a number, and the numbers decide. */
#include "host/fault.h"
#include "host/host.h"
#include <stdlib.h>
#include <string.h>

typedef struct fault_rule {
    _Atomic uint64_t calls;
    _Atomic uint64_t nth; /* 0: none; counted in calls */
    _Atomic int error;
    _Atomic bool for_good;
} fault_rule;

static fault_rule rules[STEL__FAULT_COUNT];
static pthread_once_t environment_once = PTHREAD_ONCE_INIT;
_Atomic unsigned stel__fault_on = 1;

#define FAULT_WORDS(name, words) words,
static const char *const kind_words[STEL__FAULT_COUNT] = { STEL__FAULT_KINDS(FAULT_WORDS) };
#undef FAULT_WORDS

static void set_rule(enum stel__fault_kind kind, uint64_t nth, int error, bool for_good) {
    fault_rule *r = &rules[kind];
    stel__store_relaxed(&r->error, error);
    stel__store_relaxed(&r->for_good, for_good);
    /* Release: whoever sees the number sees the rest (stel__fault_ask). */
    stel__store_release(&r->nth, stel__load_relaxed(&r->calls) + nth);
    stel__store_relaxed(&stel__fault_on, 1);
}

static int kind_of(const char *words, size_t length) {
    for (int i = 0; i < STEL__FAULT_COUNT; i++)
        if (strlen(kind_words[i]) == length && memcmp(kind_words[i], words, length) == 0) return i;
    return -EINVAL;
}

/* An errno value from its name, or from its number. stel_strerror ends each text with the name in brackets. */
static int error_of(const char *name, size_t length) {
    char wanted[32];
    if (length == 0 || length > sizeof wanted - 3) return -EINVAL;
    wanted[0] = '(';
    memcpy(wanted + 1, name, length);
    memcpy(wanted + 1 + length, ")", 2);
    for (int e = 1; e < 4096; e++)
        if (strstr(stel_strerror(-e), wanted)) return e;
    char *end;
    long number = strtol(name, &end, 10);
    return end == name + length && number > -4096 && number < 4096 ? (int)number : -EINVAL;
}

static int parse_one(const char *rule, size_t length) {
    char text[64];
    if (length >= sizeof text) return -EINVAL;
    memcpy(text, rule, length);
    text[length] = 0;
    char *number = strchr(text, ':');
    char *name = number ? strchr(number + 1, ':') : NULL;
    if (!name) return -EINVAL;
    int kind = kind_of(text, (size_t)(number - text));
    char *end;
    unsigned long long nth = strtoull(number + 1, &end, 10);
    bool for_good = *end == '+';
    if (for_good) end++;
    int error = error_of(name + 1, strlen(name + 1));
    if (kind < 0 || nth == 0 || end != name || error == -EINVAL) return -EINVAL;
    set_rule((enum stel__fault_kind)kind, nth, error, for_good);
    return 0;
}

int stel__fault_parse(const char *text) {
    while (*text) {
        size_t length = strcspn(text, ",");
        int rc = parse_one(text, length);
        if (rc < 0) return rc;
        text += length;
        if (*text == ',') text++;
    }
    return 0;
}

static void read_environment(void) {
    const char *text = secure_getenv("STELLANE_FAULT");
    if (!text) {
        bool set = false; /* by a test, before the first call */
        for (int i = 0; i < STEL__FAULT_COUNT; i++)
            set |= stel__load_relaxed(&rules[i].nth) != 0;
        if (!set) stel__store_relaxed(&stel__fault_on, 0);
    } else if (stel__fault_parse(text) < 0) {
        stel__die("STELLANE_FAULT=%s: want kind:n:ERROR or kind:n+:ERROR, separated by commas", text);
    }
}

int stel__fault_ask(enum stel__fault_kind kind) {
    pthread_once(&environment_once, read_environment);
    if (!stel__load_relaxed(&stel__fault_on)) return 0;
    fault_rule *r = &rules[kind];
    uint64_t mine = stel__add_relaxed(&r->calls, 1) + 1;
    uint64_t nth = stel__load_acquire(&r->nth); /* pairs with set_rule */
    if (nth == 0 || mine < nth || (mine > nth && !stel__load_relaxed(&r->for_good))) return 0;
    return stel__load_relaxed(&r->error);
}

void stel__fault_set(enum stel__fault_kind kind, uint64_t nth, int error, bool for_good) {
    STEL__ASSERT((unsigned)kind < STEL__FAULT_COUNT && nth > 0 && error != 0);
    pthread_once(&environment_once, read_environment);
    set_rule(kind, nth, error, for_good);
}

void stel__fault_clear(void) {
    pthread_once(&environment_once, read_environment);
    stel__store_relaxed(&stel__fault_on, 0);
    for (int i = 0; i < STEL__FAULT_COUNT; i++) {
        stel__store_relaxed(&rules[i].nth, 0);
        stel__store_relaxed(&rules[i].calls, 0);
    }
}

uint64_t stel__fault_calls(enum stel__fault_kind kind) {
    return stel__load_relaxed(&rules[kind].calls);
}
