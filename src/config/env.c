/* The environment: STELLANE_ variables into stel_config. Everything is read into a copy and every mistake reported;
 * only a clean run is written back. An empty variable counts as unset. */
#include "config/config.h"
#include <string.h>

extern char **environ;

#define PREFIX "STELLANE_"

enum { NAME_MAX_BYTES = 64 };

/* Variables that are not settings: families that other parts of the library, or its tests, read for themselves. */
static const char *const foreign[] = { "STELLANE_FAULT", "STELLANE_TEST", "STELLANE_MODULE_PATH" };

static bool is_foreign(const char *name) {
    for (size_t i = 0; i < STEL__COUNT_OF(foreign); i++)
        if (!strncmp(name, foreign[i], strlen(foreign[i]))) return true;
    return false;
}

/* How many letters must be changed, added or dropped to make a of b: Levenshtein's distance ("Binary codes capable of
 * correcting deletions, insertions, and reversals", 1966), one row at a time. */
static size_t distance(const char *a, const char *b) {
    size_t row[NAME_MAX_BYTES], n = strlen(b);
    if (n >= NAME_MAX_BYTES) return NAME_MAX_BYTES;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t change = diagonal + (a[i - 1] != b[j - 1]);
            size_t drop = row[j] + 1, add = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = change < drop ? change : drop;
            if (add < row[j]) row[j] = add;
        }
    }
    return row[n];
}

static void warn_unknown(const char *name) {
    size_t n, best = SIZE_MAX;
    const stel__key *k = stel__config_keys(&n);
    const char *nearest = NULL;
    for (size_t i = 0; i < n; i++) {
        size_t d = distance(name + sizeof PREFIX - 1, k[i].env + sizeof PREFIX - 1);
        if (d < best) best = d, nearest = k[i].env;
    }
    /* A guess that has little in common with the name helps nobody. */
    if (nearest && best <= 2 + strlen(name + sizeof PREFIX - 1) / 3)
        stel__warn("%s: warning: no such setting; did you mean %s?", name, nearest);
    else
        stel__warn("%s: warning: no such setting", name);
}

/* The text of a variable, NULL when it is unset or empty. */
static const char *lookup(const char *name) {
    size_t n = name ? strlen(name) : 0;
    for (char **e = environ; n && e && *e; e++)
        if (!strncmp(*e, name, n) && (*e)[n] == '=') return (*e)[n + 1] ? *e + n + 1 : NULL;
    return NULL;
}

static int read_key(stel_config *c, const stel__key *k) {
    const char *name = k->env, *text = lookup(k->env), *other = lookup(k->alias);
    if (text && other && strcmp(text, other) != 0) {
        stel__warn("%s: error: \"%s\", but %s, which means the same, is \"%s\"", k->env, text, k->alias, other);
        return -EINVAL;
    }
    if (!text) text = other, name = k->alias;
    if (!text) return 0;
    if (k->type == STEL__KEY_NAME) {
        if (strlen(text) >= k->width) {
            stel__warn("%s: error: \"%s\" is too long (%d bytes at the most)", name, text, k->width - 1);
            return -EINVAL;
        }
        memset((char *)c + k->offset, 0, k->width);
        memcpy((char *)c + k->offset, text, strlen(text));
        return 0;
    }
    char why[256];
    int64_t value;
    if (stel__config_parse(k, text, &value, why, sizeof why) < 0) {
        stel__warn("%s: error: %s", name, why);
        return -EINVAL;
    }
    stel__config_put(c, k, value ? value : k->preset);
    return 0;
}

static void look_for_unknown(void) {
    size_t n;
    const stel__key *k = stel__config_keys(&n);
    for (char **e = environ; e && *e; e++) {
        const char *end = strchr(*e, '=');
        size_t length = end ? (size_t)(end - *e) : 0, i = 0;
        char name[NAME_MAX_BYTES];
        if (strncmp(*e, PREFIX, sizeof PREFIX - 1) != 0 || length < sizeof PREFIX - 1) continue;
        if (length >= sizeof name) length = sizeof name - 1; /* longer than any of ours: unknown in any case */
        memcpy(name, *e, length);
        name[length] = 0;
        while (i < n && strcmp(name, k[i].env) != 0 && !(k[i].alias && !strcmp(name, k[i].alias)))
            i++;
        if (i == n && !is_foreign(name)) warn_unknown(name);
    }
}

int stel_config_from_env(stel_config *c) {
    if (!c) return -EINVAL;
    size_t n, size = c->size;
    int rc = 0;
    stel_config copy;
    const stel__key *k = stel__config_keys(&n);
    if (size < sizeof c->size || size > STEL__CONFIG_SIZE_SANE) return -EINVAL;
    memset(&copy, 0, sizeof copy);
    memcpy(&copy, c, size < sizeof copy ? size : sizeof copy);
    look_for_unknown();
    for (size_t i = 0; i < n; i++)
        if (read_key(&copy, &k[i]) < 0) rc = -EINVAL;
    if (rc == 0) memcpy(c, &copy, size < sizeof copy ? size : sizeof copy);
    return rc;
}
