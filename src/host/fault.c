/* The fault seam's rules: one slot a kind, set by tests or from STELLANE_FAULT. See fault.h.
 *
 * Exact under threads: a rule is one word, the number of calls that are still to come until the one that fails, and
 * each call takes one off by a compare-and-swap. So every call is either before a change of the rule or after it, and a
 * rule that is set anew while it is in force never lets one slip through. (Dropped: numbers drawn by the calls, and the
 * one to fail computed from the last: a call between its draw and its look at the rule belonged to neither.) */
#include "host/fault.h"
#include "host/host.h"
#include <stdlib.h>
#include <string.h>

/* left | for_good | error (signed, as getaddrinfo's codes are). left 1: the next call fails; 0: none does. */
#define LEFT_MASK   ((UINT64_C(1) << 47) - 1)
#define FOR_GOOD    (UINT64_C(1) << 47)
#define ERROR_SHIFT 48

typedef struct fault_rule {
    _Atomic uint64_t word, calls;
} fault_rule;

static fault_rule rules[STEL__FAULT_COUNT];
static pthread_once_t environment_once = PTHREAD_ONCE_INIT;
_Atomic unsigned stel__fault_on = 1;

#define FAULT_WORDS(name, words) words,
static const char *const kind_words[STEL__FAULT_COUNT] = { STEL__FAULT_KINDS(FAULT_WORDS) };
#undef FAULT_WORDS

static void set_rule(enum stel__fault_kind kind, uint64_t nth, int error, bool for_good) {
    uint64_t word = nth | (for_good ? FOR_GOOD : 0) | (uint64_t)(uint16_t)error << ERROR_SHIFT;
    stel__store_relaxed(&rules[kind].word, word); /* it says all there is to know: no partner */
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
    if (kind < 0 || nth == 0 || nth > LEFT_MASK || end != name || error == -EINVAL) return -EINVAL;
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
            set |= stel__load_relaxed(&rules[i].word) != 0;
        if (!set) stel__store_relaxed(&stel__fault_on, 0);
    } else if (stel__fault_parse(text) < 0) {
        stel__die("STELLANE_FAULT=%s: want kind:n:ERROR or kind:n+:ERROR, separated by commas", text);
    }
}

int stel__fault_ask(enum stel__fault_kind kind) {
    pthread_once(&environment_once, read_environment);
    if (!stel__load_relaxed(&stel__fault_on)) return 0;
    fault_rule *r = &rules[kind];
    stel__add_relaxed(&r->calls, 1);
    uint64_t word = stel__load_relaxed(&r->word), after, left;
    do {
        left = word & LEFT_MASK;
        if (left == 0) return 0;
        after = left > 1 ? word - 1 : word & FOR_GOOD ? word : 0;
    } while (!stel__cas_acq_rel(&r->word, &word, after)); /* the order of the swaps is the order of the calls */
    return left > 1 ? 0 : (int16_t)(word >> ERROR_SHIFT);
}

void stel__fault_set(enum stel__fault_kind kind, uint64_t nth, int error, bool for_good) {
    STEL__ASSERT((unsigned)kind < STEL__FAULT_COUNT && nth > 0 && nth <= LEFT_MASK && error == (int16_t)error && error);
    pthread_once(&environment_once, read_environment);
    set_rule(kind, nth, error, for_good);
}

void stel__fault_clear(void) {
    pthread_once(&environment_once, read_environment);
    stel__store_relaxed(&stel__fault_on, 0);
    for (int i = 0; i < STEL__FAULT_COUNT; i++) {
        stel__store_relaxed(&rules[i].word, 0);
        stel__store_relaxed(&rules[i].calls, 0);
    }
}

uint64_t stel__fault_calls(enum stel__fault_kind kind) {
    return stel__load_relaxed(&rules[kind].calls);
}
