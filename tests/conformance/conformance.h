/* The conformance suite: what every polling backend promises, by itself (part "ops") and below whole runtimes (a part for
 * each polling mode). One program, one run of it for each pair of a backend and a part; each rule is a check with a name,
 * which runs in a process of its own.
 *
 * A check is
 *
 *     RULE(name, "The rule, as the table in the docs has it.") {
 *         NOT_FOR(has(STEL_BACKEND_ONESHOT), "a reason of few words");
 *         ... FIBER_ASSERT and its relatives ...
 *     }
 *
 * and is listed at the end of its file. Nothing in here hangs on the clock: what must come is waited for, what must not
 * come is made impossible first (a later event of the same kind has come, and it has not). */
#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#include "io_sides.h"
#include "poller/inside.h"

typedef struct check {
    const char *name;
    const char *rule;
    void (*fn)(void);
} check;

#define RULE(name, text)                                                                                               \
    static void rule_##name(void);                                                                                     \
    static const check check_of_##name = { #name, text, rule_##name };                                                 \
    static void rule_##name(void)

/* What is looked at. */
typedef struct subject {
    const char *backend;
    const char *part;
    const stel_backend_ops *ops;
    int mode; /* STEL_POLLER_...; 0 in part "ops" */
} subject;
extern subject it;

static inline bool has(unsigned capability) {
    return (it.ops->capabilities & capability) != 0;
}

/* The rule is none for this backend or mode. Ends the check. */
_Noreturn void not_applicable(const char *reason);
#define NOT_FOR(condition, reason) ((condition) ? not_applicable(reason) : (void)0)

/* The lists, each with NULL at its end. */
extern const check *const ops_readiness_checks[];
extern const check *const ops_wait_checks[];
extern const check *const ops_completion_checks[];
extern const check *const run_io_checks[];
extern const check *const run_limits_checks[];
extern const check *const run_numbers_checks[];
extern const check *const run_life_checks[];

/* ---- part "ops": one instance ---- */

void *fresh(int batch); /* of the subject */

/* Events of an instance, gathered by whoever waits. */
enum { GATHERED = 4096 };
typedef struct gathered {
    int n;
    stel_backend_event events[GATHERED];
} gathered;
/* One wait; what it brought is added. Returns how many that were. */
int gather(void *instance, gathered *g, int most, int64_t until);
/* Wait until there are n events in all. */
void gather_until(void *instance, gathered *g, int n);
/* All that is there by now: a descriptor of our own is made ready after all that was done before, and its event waited
 * for; for backends with READINESS. */
void gather_all(void *instance, gathered *g);
/* How many of them carry the token; the last one's result in *result, which may be NULL. */
int count_of(const gathered *g, uint64_t token, int32_t *result);

/* ---- a mode: a runtime ---- */

/* A configuration of the subject for so many workers, or as many as the mode allows. */
stel_config configured(int workers);
/* run_in_runtime_with that. */
void run(int workers, stel_fn *fn, void *arg);
/* Can it have two workers? */
bool has_two_workers(void);

/* fn(arg) as a fiber on that worker. */
stel_fiber spawn_at(int worker, stel_fn *fn, void *arg);
int join(stel_fiber f);

#endif
