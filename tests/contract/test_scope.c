/* The contract of stellane/scope.h: time limits, scopes, cancel tokens. */
#include "contract.h"

/* ---- time limits ---- */

/* STEL_TIMEOUT: until the block is left, however, waits end after the length; the tighter one counts. */
ON_BOTH(contract_STEL_TIMEOUT) {
    for (int i = 0; i < 2; i++) {
        STEL_TIMEOUT(STEL_MS(2));
        EQ(stel_sleep(STEL_FOREVER), -ETIMEDOUT);
        EQ(stel_sleep(1), -ETIMEDOUT);
        if (i == 0) continue; /* out of the block */
        {
            STEL_TIMEOUT(STEL_SEC(1000)); /* inside a tighter one */
            EQ(stel_sleep(1), -ETIMEDOUT);
            goto out;
        }
    }
out:
    EQ(stel_sleep(1), 0);
    EQ(stel_deadline(), STEL_FOREVER);
}

/* stel_deadline: the deadline as a point in time, STEL_FOREVER without one, INT64_MIN when a wait has reported it. */
ON_BOTH(contract_stel_deadline) {
    EQ(stel_deadline(), STEL_FOREVER);
    int64_t before = stel_now();
    STEL_TIMEOUT(STEL_MS(1));
    IS(stel_deadline() >= before + STEL_MS(1) && stel_deadline() <= stel_after(STEL_MS(1)));
    EQ(stel_sleep(STEL_FOREVER), -ETIMEDOUT);
    EQ(stel_deadline(), INT64_MIN);
}

/* stel_deadline_push: the deadline becomes min(deadline, when); returns what it was. */
ON_BOTH(contract_stel_deadline_push) {
    int64_t far = stel_after(STEL_SEC(1000));
    EQ(stel_deadline_push(far), STEL_FOREVER);
    EQ(stel_deadline_push(far + 1), far);
    EQ(stel_deadline(), far);
    EQ(stel_deadline_push(far - 1), far);
    EQ(stel_deadline(), far - 1);
    stel_deadline_pop(STEL_FOREVER);
}

/* stel_deadline_pop: puts back what push returned. */
ON_BOTH(contract_stel_deadline_pop) {
    int64_t before = stel_deadline_push(0);
    EQ(stel_sleep(1), -ETIMEDOUT);
    stel_deadline_pop(before);
    EQ(stel_deadline(), STEL_FOREVER);
    EQ(stel_sleep(1), 0);
}

/* stel_timed_out: was the latest -ETIMEDOUT the caller's own deadline? */
ON_BOTH(contract_stel_timed_out) {
    {
        STEL_TIMEOUT(STEL_MS(1));
        EQ(stel_sleep(STEL_FOREVER), -ETIMEDOUT);
        IS(stel_timed_out());
    }
    stel_scope s;
    OK(stel_scope_open(&s, 0));
    OK(stel_scope_spawn(&s, give, THE(-ETIMEDOUT)));
    EQ(stel_scope_join(&s), -ETIMEDOUT);
    IS(!stel_timed_out()); /* a child's */
}

/* ---- scopes ---- */

static atomic_int begun, cancelled, ended;

static int counts_cancel(void *arg) {
    (void)arg;
    atomic_fetch_add(&begun, 1);
    int rc = stel_sleep(STEL_FOREVER);
    if (rc == -ECANCELED) atomic_fetch_add(&cancelled, 1);
    return rc;
}
static int ends_late(void *arg) {
    for (int i = 0; i < 10; i++)
        stel_yield();
    atomic_fetch_add(&ended, 1);
    return (int)(intptr_t)arg;
}
/* Children that have begun, so that their cancellation is counted. */
static void spawn_into(stel_scope *s, int n) {
    atomic_store(&begun, 0);
    for (int i = 0; i < n; i++)
        OK(stel_scope_spawn(s, counts_cancel, NULL));
    EVENTUALLY(atomic_load(&begun) == n);
    atomic_store(&cancelled, 0);
}

static int returns_from_scope(int i) {
    STEL_SCOPE(s);
    spawn_into(&s, 2);
    if (i == 0) return i;
    goto out;
out:
    return i;
}

static int leaves_scope_by_exit(void *arg) {
    STEL_SCOPE(s);
    spawn_into(&s, 2);
    stel_exit((int)(intptr_t)arg);
}

/* STEL_SCOPE: an open scope; leaving the block, however, cancels the children and waits for them; joined before, it does
 * nothing more. */
ON_BOTH(contract_STEL_SCOPE) {
    for (int i = 0; i < 2; i++) {
        EQ(returns_from_scope(i), i);
        EQ(atomic_load(&cancelled), 2);
    }
    for (;;) {
        STEL_SCOPE(s);
        spawn_into(&s, 2);
        break;
    }
    EQ(atomic_load(&cancelled), 2);
    EQ(join(spawn(leaves_scope_by_exit, THE(3))), 3);
    EQ(atomic_load(&cancelled), 2);
    atomic_store(&ended, 0);
    {
        STEL_SCOPE(s);
        OK(stel_scope_spawn(&s, ends_late, NULL));
        OK(stel_scope_join(&s));
        EQ(atomic_load(&ended), 1);
    }
    EQ(atomic_load(&ended), 1);
}

/* STEL_SCOPE_WITH: STEL_SCOPE with flags. */
ON_BOTH(contract_STEL_SCOPE_WITH) {
    atomic_store(&ended, 0);
    {
        STEL_SCOPE_WITH(s, STEL_SCOPE_COLLECT);
        OK(stel_scope_spawn(&s, give, THE(-EBADMSG)));
        check_fiber_nap();
        OK(stel_scope_spawn(&s, ends_late, NULL)); /* not cancelled by the failure */
        EQ(stel_scope_join(&s), -EBADMSG);
        EQ(atomic_load(&ended), 1);
    }
    {
        STEL_SCOPE_WITH(s, STEL_SCOPE_COLLECT);
        spawn_into(&s, 2);
    }
    EQ(atomic_load(&cancelled), 2);
    {
        STEL_SCOPE_WITH(s, 1u << 7); /* it could not be opened: every spawn says so */
        EQ(stel_scope_spawn(&s, give, NULL), -EINVAL);
    }
}

static int returns_with_open_scope(void *arg) {
    stel_scope s; /* ends with the frame: that is what is wrong */
    OK(stel_scope_open(&s, 0));
    return (int)(intptr_t)arg;
}
static void open_at_the_end(void) {
    (void)run_in_runtime(1, returns_with_open_scope, NULL);
}
static int born_cancelled(void *arg) {
    stel_scope s;
    (void)arg;
    OK(stel_cancel(stel_self()));
    OK(stel_scope_open(&s, 0));
    EQ(stel_scope_spawn(&s, give, NULL), -ECANCELED);
    EQ(stel_scope_join(&s), -ECANCELED);
    STEL_SHIELD(STEL_SEC(1000));
    OK(stel_scope_open(&s, 0));
    OK(stel_scope_spawn(&s, give, NULL));
    return stel_scope_join(&s);
}
static int opens_without_memory(void *arg) {
    stel_scope s;
    (void)arg;
    stel__fault_set(STEL__FAULT_ALLOC, 1, ENOMEM, true);
    int rc = stel_scope_open(&s, 0);
    EQ(stel_scope_spawn(&s, give, NULL), rc); /* it says so as well: for who declares with STEL_SCOPE */
    stel__fault_clear();
    return rc;
}
static void opens_scopes(void) {
    stel_scope s;
    EQ(stel_scope_open(NULL, 0), -EINVAL);
    EQ(stel_scope_open(&s, 1u << 1), -EINVAL);
    OK(stel_scope_open(&s, 0));
    OK(stel_scope_join(&s));
    EQ(join(spawn(born_cancelled, NULL)), 0);
    EQ(join(spawn(opens_without_memory, NULL)), -ENOMEM);
}
static void open_after_fork(void) {
    stel_scope s;
    EQ(stel_scope_open(&s, 0), -EPERM);
}

/* stel_scope_open: opens; cancelled from the start when the opener is and no shield is open; -EINVAL -ENOMEM -EPERM; a
 * fiber that returns with an open scope aborts with a message. */
START_TEST(contract_stel_scope_open) {
    must_abort(open_at_the_end, "scope");
    on_both(opens_scopes);
    in_forked_child(open_after_fork);
}
END_TEST

static int tells_deadline(void *arg) {
    *(int64_t *)arg = stel_deadline();
    return 0;
}
static int spawns_sibling(void *arg) {
    return stel_scope_spawn(arg, ends_late, NULL);
}
static void spawns_children(void) {
    stel_scope s;
    int64_t by_opener = 0;
    memset(&s, 0, sizeof s);
    EQ(stel_scope_spawn(NULL, give, NULL), -EINVAL);
    EQ(stel_scope_spawn(&s, give, NULL), -EINVAL); /* not open */
    atomic_store(&ended, 0);
    {
        STEL_TIMEOUT(STEL_SEC(1000));
        OK(stel_scope_open(&s, 0));
        EQ(stel_scope_spawn(&s, NULL, NULL), -EINVAL);
        OK(stel_scope_spawn(&s, tells_deadline, &by_opener));
        OK(stel_scope_spawn(&s, spawns_sibling, &s)); /* a child may */
        OK(stel_scope_join(&s));
        EQ(by_opener, stel_deadline());
        EQ(atomic_load(&ended), 1);
    }
    OK(stel_scope_open(&s, 0));
    stel_scope_cancel(&s);
    EQ(stel_scope_spawn(&s, give, NULL), -ECANCELED);
    OK(stel_scope_join(&s));
    EQ(stel_scope_spawn(&s, give, NULL), -EINVAL); /* closed */
}
static int opens_and_waits(void *arg) {
    stel_scope s;
    OK(stel_scope_open(&s, 0));
    spawn_into(&s, 2);
    stel_event_set(arg);
    return stel_scope_join(&s);
}
static void cancels_the_opener(void) {
    stel_event ready = STEL_EVENT_INIT;
    stel_fiber opener = spawn(opens_and_waits, &ready);
    OK(stel_event_wait(&ready));
    OK(stel_cancel(opener));
    EQ(join(opener), -ECANCELED);
    EQ(atomic_load(&cancelled), 2);
}

/* stel_scope_spawn: a child with the opener's deadline, cancelled with the opener and with the scope; -EINVAL
 * -ECANCELED, and as stel_spawn. */
START_TEST(contract_stel_scope_spawn) {
    stel_scope s;
    OK(stel_scope_open(&s, 0)); /* a thread without a runtime may */
    EQ(stel_scope_spawn(&s, give, NULL), -EPERM);
    OK(stel_scope_join(&s));
    on_both(spawns_children);
    on_both(cancels_the_opener);
    stel_config c;
    stel_config_init(&c);
    c.max_fibers = 1;
    stel_runtime *rt = runtime_with(&c);
    OK(stel_scope_open(&s, 0));
    OK(stel_scope_spawn(&s, until_cancelled, NULL));
    EQ(stel_scope_spawn(&s, give, NULL), -EAGAIN);
    stel_scope_cancel(&s);
    OK(stel_scope_join(&s));
    finish(rt);
}
END_TEST

static int joins_anothers(void *arg) {
    return stel_scope_join(arg);
}
static int shielded_then(void *arg) {
    STEL_SHIELD(STEL_SEC(1000));
    OK(stel_event_wait(arg));
    atomic_fetch_add(&ended, 1);
    return 0;
}
static int sets_when_cancelled(void *arg) {
    EQ(stel_sleep(STEL_FOREVER), -ECANCELED);
    stel_event_set(arg);
    return 0;
}
static int joins_scope(void *arg) {
    stel_scope s;
    (void)arg;
    OK(stel_scope_open(&s, 0));
    int rc = stel_scope_spawn(&s, until_cancelled, NULL);
    IS(rc == 0 || rc == -ECANCELED);
    return stel_scope_join(&s);
}
static void joins_scopes(void) {
    stel_scope s;
    stel_event cut = STEL_EVENT_INIT;
    memset(&s, 0, sizeof s);
    EQ(stel_scope_join(NULL), -EINVAL);
    EQ(stel_scope_join(&s), -EINVAL);
    atomic_store(&ended, 0);
    OK(stel_scope_open(&s, 0));
    for (int i = 0; i < 5; i++)
        OK(stel_scope_spawn(&s, ends_late, NULL));
    OK(stel_scope_join(&s));
    EQ(atomic_load(&ended), 5); /* every child has ended */
    EQ(stel_scope_join(&s), -EINVAL);
    OK(stel_scope_open(&s, 0)); /* the first failure cancels the siblings and is returned, however late one comes */
    spawn_into(&s, 2);
    OK(stel_scope_spawn(&s, give, THE(-EBADMSG)));
    EVENTUALLY(atomic_load(&cancelled) == 2);
    EQ(stel_scope_join(&s), -EBADMSG);
    OK(stel_scope_open(&s, 0)); /* only for the opener */
    OK(stel_scope_spawn(&s, joins_anothers, &s));
    EQ(stel_scope_join(&s), -EPERM);
    atomic_store(&ended, 0);
    OK(stel_scope_open(&s, 0)); /* cut short: it cancels, waits on, and returns its own code */
    OK(stel_scope_spawn(&s, shielded_then, &cut));
    OK(stel_scope_spawn(&s, sets_when_cancelled, &cut));
    {
        STEL_TIMEOUT(STEL_MS(3));
        EQ(stel_scope_join(&s), -ETIMEDOUT);
    }
    EQ(atomic_load(&ended), 1);
    obeys_limits(joins_scope, NULL);
}
static stel_scope of_the_parent;
static void join_after_fork(void) {
    EQ(stel_scope_join(&of_the_parent), -EPERM);
}

/* stel_scope_join: waits until every child has ended, whatever happens; the first failure cancels the siblings and is
 * returned; cut short, -ETIMEDOUT -ECANCELED, the children are cancelled and waited for; -EINVAL -EPERM. */
START_TEST(contract_stel_scope_join) {
    on_both(joins_scopes);
    OK(stel_scope_open(&of_the_parent, 0));
    in_forked_child(join_after_fork);
    OK(stel_scope_join(&of_the_parent));
}
END_TEST

/* stel_scope_cancel: all children and those that would still be spawned; the scope stays open; children cancelled so have
 * not failed; no scope: nothing. */
ON_BOTH(contract_stel_scope_cancel) {
    stel_scope s;
    memset(&s, 0, sizeof s);
    stel_scope_cancel(&s);
    stel_scope_cancel(NULL);
    OK(stel_scope_open(&s, 0));
    spawn_into(&s, 3);
    stel_scope_cancel(&s);
    stel_scope_cancel(&s);
    EQ(stel_scope_spawn(&s, give, NULL), -ECANCELED);
    EQ(stel_scope_join(&s), 0);
    EQ(atomic_load(&cancelled), 3);
}

static stel_scope of_another;
static int closes_it(void *arg) {
    stel_scope_close(arg);
    return 0;
}
static int others_close(void *arg) {
    (void)arg;
    OK(stel_scope_open(&of_another, 0));
    return join(spawn(closes_it, &of_another));
}
static void closed_by_another(void) {
    (void)run_in_runtime(1, others_close, NULL);
}
static void closes(void) {
    stel_scope s;
    memset(&s, 0, sizeof s);
    stel_scope_close(&s);
    OK(stel_scope_open(&s, 0));
    spawn_into(&s, 2);
    stel_scope_close(&s);
    EQ(atomic_load(&cancelled), 2);
    EQ(stel_scope_join(&s), -EINVAL);
    OK(stel_scope_open(&s, 0));
    OK(stel_scope_join(&s));
    stel_scope_close(&s); /* after a join: nothing */
}

/* stel_scope_close: what STEL_SCOPE does at the end of its block: cancel, and join unless that was done; by another than
 * the opener it aborts. */
START_TEST(contract_stel_scope_close) {
    must_abort(closed_by_another, "stel_scope_close");
    on_both(closes);
}
END_TEST

/* STEL_SCOPE_COLLECT: a failure is returned by the join and cancels nobody. */
ON_BOTH(contract_STEL_SCOPE_COLLECT) {
    stel_scope s;
    atomic_store(&ended, 0);
    OK(stel_scope_open(&s, STEL_SCOPE_COLLECT));
    OK(stel_scope_spawn(&s, give, THE(-EBADMSG)));
    check_fiber_nap(); /* it has failed */
    for (int i = 0; i < 3; i++)
        OK(stel_scope_spawn(&s, ends_late, NULL));
    EQ(stel_scope_join(&s), -EBADMSG);
    EQ(atomic_load(&ended), 3);
}

/* ---- cancel tokens ---- */

/* stel_cancel_token_create: a token with one reference, not cancelled; -EINVAL -ENOMEM. */
ON_BOTH(contract_stel_cancel_token_create) {
    stel_cancel_token *t = NULL;
    EQ(stel_cancel_token_create(NULL), -EINVAL);
    stel__fault_set(STEL__FAULT_ALLOC, 1, ENOMEM, true);
    EQ(stel_cancel_token_create(&t), -ENOMEM);
    stel__fault_clear();
    IS(!t);
    OK(stel_cancel_token_create(&t));
    IS(!stel_cancel_token_cancelled(t));
    stel_cancel_token_release(t);
}

/* stel_cancel_token_retain: one more reference; returns the token. */
ON_BOTH(contract_stel_cancel_token_retain) {
    stel_cancel_token *t = NULL;
    OK(stel_cancel_token_create(&t));
    IS(stel_cancel_token_retain(t) == t);
    stel_cancel_token_release(t);
    OK(stel_cancel_token_cancel(t)); /* still there */
    IS(stel_cancel_token_cancelled(t));
    stel_cancel_token_release(t);
    IS(stel_cancel_token_retain(NULL) == NULL);
}

/* stel_cancel_token_release: gives a reference back; the fibers of a token without references go on uncancelled; NULL is
 * allowed. */
ON_BOTH(contract_stel_cancel_token_release) {
    stel_cancel_token *t = NULL;
    stel_cancel_token_release(NULL);
    OK(stel_cancel_token_create(&t));
    stel_fiber f = spawn(until_cancelled, NULL);
    OK(stel_cancel_token_attach(t, f));
    stel_cancel_token_release(t);
    EQ(stel_try_join(f, NULL), -EAGAIN);
    OK(stel_cancel(f));
    EQ(join(f), -ECANCELED);
}

/* stel_cancel_token_cancel: cancels all that are attached and that will be; twice is harmless; -EINVAL. */
ON_BOTH(contract_stel_cancel_token_cancel) {
    stel_cancel_token *t = NULL;
    stel_fiber f[3];
    OK(stel_cancel_token_create(&t));
    for (int i = 0; i < 3; i++) {
        f[i] = spawn(until_cancelled, NULL);
        if (i < 2) OK(stel_cancel_token_attach(t, f[i]));
    }
    OK(stel_cancel_token_cancel(t));
    OK(stel_cancel_token_cancel(t));
    EQ(join(f[0]), -ECANCELED);
    EQ(join(f[1]), -ECANCELED);
    EQ(stel_try_join(f[2], NULL), -EAGAIN);
    OK(stel_cancel_token_attach(t, f[2])); /* at once */
    EQ(join(f[2]), -ECANCELED);
    stel_cancel_token_release(t);
    EQ(stel_cancel_token_cancel(NULL), -EINVAL);
}

static int asks_token(void *arg) {
    return stel_cancel_token_cancelled(arg);
}

/* stel_cancel_token_cancelled: has it been; from any thread; false for NULL. */
ON_BOTH(contract_stel_cancel_token_cancelled) {
    stel_cancel_token *t = NULL;
    beside b;
    IS(!stel_cancel_token_cancelled(NULL));
    OK(stel_cancel_token_create(&t));
    IS(!stel_cancel_token_cancelled(t));
    OK(stel_cancel_token_cancel(t));
    IS(stel_cancel_token_cancelled(t));
    beside_start(&b, asks_token, t);
    EQ(beside_join(&b), 1);
    stel_cancel_token_release(t);
}

/* stel_cancel_token_attach: the fiber is cancelled with the token; many tokens, or twice, do no harm; -EINVAL -ESRCH
 * -ENOMEM. */
ON_BOTH(contract_stel_cancel_token_attach) {
    stel_cancel_token *t = NULL, *other = NULL;
    OK(stel_cancel_token_create(&t));
    OK(stel_cancel_token_create(&other));
    stel_fiber f = spawn(until_cancelled, NULL);
    stel__fault_set(STEL__FAULT_ALLOC, 1, ENOMEM, true);
    EQ(stel_cancel_token_attach(t, f), -ENOMEM);
    stel__fault_clear();
    OK(stel_cancel_token_attach(other, f));
    OK(stel_cancel_token_attach(t, f));
    OK(stel_cancel_token_attach(t, f));
    EQ(stel_cancel_token_attach(NULL, f), -EINVAL);
    OK(stel_cancel_token_cancel(t));
    EQ(join(f), -ECANCELED);
    EQ(stel_cancel_token_attach(t, f), -ESRCH);
    OK(stel_cancel_token_cancel(other)); /* one that has ended is forgotten */
    stel_cancel_token_release(t);
    stel_cancel_token_release(other);
}

TEST_MAIN("contract/scope", contract_STEL_TIMEOUT, contract_stel_deadline, contract_stel_deadline_push,
          contract_stel_deadline_pop, contract_stel_timed_out, contract_STEL_SCOPE, contract_STEL_SCOPE_WITH,
          contract_stel_scope_open, contract_stel_scope_spawn, contract_stel_scope_join, contract_stel_scope_cancel,
          contract_stel_scope_close, contract_STEL_SCOPE_COLLECT, contract_stel_cancel_token_create,
          contract_stel_cancel_token_retain, contract_stel_cancel_token_release, contract_stel_cancel_token_cancel,
          contract_stel_cancel_token_cancelled, contract_stel_cancel_token_attach)
