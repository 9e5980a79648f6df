/* One value, from text. Strict: a duration has a unit, a number is a number to its end, nothing is guessed. */
#include "config/config.h"
#include <stdio.h>
#include <string.h>

typedef struct unit {
    const char *name;
    int64_t factor;
} unit;

static const unit durations[] = { { "ns", 1 },
                                  { "us", 1000 },
                                  { "ms", 1000000 },
                                  { "s", INT64_C(1000000000) },
                                  { "m", INT64_C(60) * 1000000000 },
                                  { "h", INT64_C(3600) * 1000000000 },
                                  { NULL, 0 } };
static const unit sizes[] = { { "", 1 },          { "B", 1 },         { "KiB", 1024 },
                              { "MiB", 1 << 20 }, { "GiB", 1 << 30 }, { NULL, 0 } };
static const unit plain[] = { { "", 1 }, { NULL, 0 } };

/* Digits at the start of text; returns where they end, NULL when there are none or the number has no room. */
static const char *digits(const char *text, unsigned base, uint64_t *out) {
    const char *p = text;
    uint64_t value = 0;
    for (;; p++) {
        unsigned d;
        if (*p >= '0' && *p <= '9')
            d = (unsigned)(*p - '0');
        else if (base == 16 && (*p | 32) >= 'a' && (*p | 32) <= 'f')
            d = (unsigned)((*p | 32) - 'a') + 10;
        else
            break;
        if (__builtin_mul_overflow(value, base, &value) || __builtin_add_overflow(value, d, &value)) return NULL;
    }
    *out = value;
    return p == text ? NULL : p;
}

static int parse_bool(const char *text, int64_t *value) {
    static const char *const yes[] = { "true", "1", "yes", "on" };
    static const char *const no[] = { "false", "0", "no", "off" };
    for (size_t i = 0; i < STEL__COUNT_OF(yes); i++) {
        *value = !strcmp(text, yes[i]);
        if (*value || !strcmp(text, no[i])) return 0;
    }
    return -EINVAL;
}

static int parse_seed(const char *text, int64_t *value) {
    uint64_t number;
    bool hex = text[0] == '0' && (text[1] | 32) == 'x';
    const char *end = digits(hex ? text + 2 : text, hex ? 16 : 10, &number);
    if (!end || *end) return -EINVAL;
    memcpy(value, &number, sizeof number);
    return 0;
}

/* A bound as a user would write it: durations and sizes with the largest unit that divides them. */
static void show(const stel__key *k, int64_t value, char *out, size_t bytes) {
    const unit *u = k->type == STEL__KEY_DURATION ? durations : k->type == STEL__KEY_SIZE ? sizes : plain;
    const unit *best = u;
    for (; u->name; u++)
        if (value && value % u->factor == 0) best = u;
    snprintf(out, bytes, "%lld%s", (long long)(value / best->factor), best->name);
}

static int say_range(const stel__key *k, const char *text, char *why, size_t bytes) {
    char low[32], high[32];
    show(k, k->min, low, sizeof low);
    show(k, k->max, high, sizeof high);
    if (k->max == INT64_MAX)
        snprintf(why, bytes, "\"%s\" is out of range (%s%s%s or more)%s%s", text, k->off ? k->off : "",
                 k->off ? ", or " : "", low, k->hint ? "; " : "", k->hint ? k->hint : "");
    else
        snprintf(why, bytes, "\"%s\" is out of range (%s%s..%s)%s%s", text, k->automatic ? "auto or " : "", low, high,
                 k->hint ? "; " : "", k->hint ? k->hint : "");
    return -EINVAL;
}

static int say_form(const stel__key *k, const char *text, bool number, char *why, size_t bytes) {
    if (k->type == STEL__KEY_DURATION && number)
        snprintf(why, bytes, "\"%s\": a duration needs a unit (ns, us, ms, s, m, h), as in \"50ms\"", text);
    else if (k->type == STEL__KEY_DURATION)
        snprintf(why, bytes, "\"%s\" is not a duration, as in \"50ms\"", text);
    else if (k->type == STEL__KEY_SIZE)
        snprintf(why, bytes, "\"%s\" is not a size, as in \"256KiB\" (B, KiB, MiB, GiB)", text);
    else if (k->type == STEL__KEY_BOOL || k->type == STEL__KEY_SWITCH)
        snprintf(why, bytes, "\"%s\" is neither true nor false", text);
    else
        snprintf(why, bytes, "\"%s\" is not a number%s%s", text, k->hint ? "; " : "", k->hint ? k->hint : "");
    return -EINVAL;
}

static int parse_choice(const stel__key *k, const char *text, int64_t *value, char *why, size_t bytes) {
    size_t length = strlen(text);
    for (const char *word = k->words; *word; word = strchr(word, ' ') + 1) {
        ++*value;
        if (length && !strncmp(word, text, length) && word[length] == ' ') return 0;
    }
    snprintf(why, bytes, "\"%s\" is none of: %s%.*s", text, k->automatic ? "auto " : "", (int)strlen(k->words) - 1,
             k->words);
    return -EINVAL;
}

static int parse_number(const stel__key *k, const char *text, int64_t *value, char *why, size_t bytes) {
    const unit *u = k->type == STEL__KEY_DURATION ? durations : k->type == STEL__KEY_SIZE ? sizes : plain;
    bool negative = *text == '-';
    const char *start = text + negative, *rest = start;
    uint64_t number = 0;
    while (*rest >= '0' && *rest <= '9')
        rest++;
    if (rest == start) return say_form(k, text, false, why, bytes);
    while (u->name && strcmp(u->name, rest) != 0)
        u++;
    if (!u->name) return say_form(k, text, !*rest, why, bytes);
    if (negative || !digits(start, 10, &number) || number > INT64_MAX ||
        __builtin_mul_overflow((int64_t)number, u->factor, value))
        return say_range(k, text, why, bytes);
    if (*value == 0 && k->zero) return 0;
    return *value < k->min || *value > k->max ? say_range(k, text, why, bytes) : 0;
}

int stel__config_parse(const stel__key *k, const char *text, int64_t *value, char *why, size_t why_bytes) {
    STEL__ASSERT(k->type != STEL__KEY_NAME);
    *value = 0;
    if (k->automatic && (!strcmp(text, "auto") || (k->auto_word && !strcmp(text, k->auto_word)))) return 0;
    if (k->off && !strcmp(text, k->off)) {
        *value = -1;
        return 0;
    }
    switch (k->type) {
    case STEL__KEY_BOOL:
    case STEL__KEY_SWITCH:
        if (parse_bool(text, value) < 0) return say_form(k, text, false, why, why_bytes);
        if (k->type == STEL__KEY_SWITCH && !*value) *value = -1;
        return 0;
    case STEL__KEY_CHOICE:
        return parse_choice(k, text, value, why, why_bytes);
    case STEL__KEY_SEED:
        return parse_seed(text, value) < 0 ? say_form(k, text, false, why, why_bytes) : 0;
    default:
        return parse_number(k, text, value, why, why_bytes);
    }
}
