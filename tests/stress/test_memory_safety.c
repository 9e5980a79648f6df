/* Memory that is used, or lost, after its time (row E23): objects of every kind that are destroyed the moment the
 * contract allows it, while the other side is still on its way out of the call that let them go; buffers of calls that
 * were cut short; control blocks and stacks that go from one fiber to the next; and what is left after very many of
 * everything. Whoever destroys writes a pattern over what is gone (unit/sync/crew.h, graveyard.h), which is looked at
 * later; AddressSanitizer sees reads as well.
 *
 * ctest: labels=slow timeout=180 */
#include "../unit/sync/crew.h"
#include "graveyard.h"
#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <netdb.h>
#include <stellane/stellane.h>
#include <sys/resource.h>

/* ---- objects that end with the hand-over ---- */

/* A giver lets a taker go on, and the taker destroys the object at once. Barrier and once have no such sides: there the
 * last one to leave destroys. */
enum { EVENT, WAITGROUP, SEM, MUTEX, WRITE_LOCK, READ_LOCK, COND, BARRIER, ONCE, CHAN, KINDS };

typedef struct plot {
    union {
        stel_event event;
        stel_waitgroup group;
        stel_sem sem;
        stel_mutex mutex;
        stel_rwlock rwlock;
        struct {
            stel_mutex mutex;
            stel_cond cond;
            bool raised;
        } cond;
        stel_barrier barrier;
        stel_once once;
        stel_chan *chan;
    } u;
} plot;

typedef struct field {
    plot *plots;
    uint8_t *kinds;
    _Atomic int *steps; /* of a plot: it is held by its giver; how many have left */
    size_t n;
    _Atomic size_t given, taken; /* how far givers and takers have come: no one is far ahead */
} field;

static void lay_out(plot *p, int kind) {
    memset(p, 0, sizeof *p);
    if (kind == WAITGROUP) stel_waitgroup_add(&p->u.group, 1);
    if (kind == SEM) FIBER_OK(stel_sem_init(&p->u.sem, 0));
    if (kind == BARRIER) FIBER_OK(stel_barrier_init(&p->u.barrier, 2));
    if (kind == CHAN) {
        FIBER_OK(stel_chan_create(&p->u.chan, sizeof(int), 0));
        (void)stel_chan_retain(p->u.chan); /* one for each side */
    }
}

static int slow_once(void *arg) {
    crew_jitter(arg);
    return 0;
}

/* The last of the two to leave. */
static bool leaves_last(_Atomic int *step) {
    return atomic_fetch_add(step, 1) == 1;
}

static void give(plot *p, int kind, _Atomic int *step, uint64_t *random) {
    stel_chan *c = kind == CHAN ? p->u.chan : NULL;
    int value = 7;
    bool last = false;
    switch (kind) {
    case EVENT:
        stel_event_set(&p->u.event);
        break;
    case WAITGROUP:
        stel_waitgroup_done(&p->u.group);
        break;
    case SEM:
        stel_sem_release(&p->u.sem);
        break;
    case MUTEX:
        stel_mutex_lock(&p->u.mutex);
        atomic_store(step, 1);
        crew_jitter(random);
        stel_mutex_unlock(&p->u.mutex);
        break;
    case WRITE_LOCK:
        stel_rwlock_write_lock(&p->u.rwlock);
        atomic_store(step, 1);
        crew_jitter(random);
        stel_rwlock_write_unlock(&p->u.rwlock);
        break;
    case READ_LOCK:
        stel_rwlock_read_lock(&p->u.rwlock);
        atomic_store(step, 1);
        crew_jitter(random);
        stel_rwlock_read_unlock(&p->u.rwlock);
        break;
    case COND:
        stel_mutex_lock(&p->u.cond.mutex);
        p->u.cond.raised = true;
        stel_cond_signal(&p->u.cond.cond);
        stel_mutex_unlock(&p->u.cond.mutex);
        break;
    case BARRIER:
        FIBER_OK(stel_barrier_wait(&p->u.barrier));
        last = leaves_last(step);
        break;
    case ONCE:
        FIBER_OK(stel_once_call(&p->u.once, slow_once, random));
        last = leaves_last(step);
        break;
    default:
        FIBER_OK(stel_chan_send(c, &value)); /* the plot is buried by now, the channel is not: we have a reference */
        stel_chan_destroy(c);
    }
    if (last) bury(p, sizeof *p);
}

static void until_held(_Atomic int *step) {
    while (!atomic_load(step))
        stel_yield();
}

static void take(plot *p, int kind, _Atomic int *step, uint64_t *random) {
    stel_chan *c = kind == CHAN ? p->u.chan : NULL;
    int value = 0;
    bool mine = true;
    switch (kind) {
    case EVENT:
        FIBER_OK(stel_event_wait(&p->u.event));
        break;
    case WAITGROUP:
        FIBER_OK(stel_waitgroup_wait(&p->u.group));
        break;
    case SEM:
        FIBER_OK(stel_sem_acquire(&p->u.sem));
        break;
    case MUTEX:
        until_held(step);
        stel_mutex_lock(&p->u.mutex);
        stel_mutex_unlock(&p->u.mutex);
        break;
    case WRITE_LOCK:
        until_held(step);
        stel_rwlock_read_lock(&p->u.rwlock);
        stel_rwlock_read_unlock(&p->u.rwlock);
        break;
    case READ_LOCK:
        until_held(step);
        stel_rwlock_write_lock(&p->u.rwlock);
        stel_rwlock_write_unlock(&p->u.rwlock);
        break;
    case COND:
        stel_mutex_lock(&p->u.cond.mutex);
        while (!p->u.cond.raised)
            FIBER_OK(stel_cond_wait(&p->u.cond.cond, &p->u.cond.mutex));
        stel_mutex_unlock(&p->u.cond.mutex);
        break;
    case BARRIER:
        FIBER_OK(stel_barrier_wait(&p->u.barrier));
        mine = leaves_last(step);
        break;
    case ONCE:
        FIBER_OK(stel_once_call(&p->u.once, slow_once, random));
        mine = leaves_last(step);
        break;
    default:
        FIBER_OK(stel_chan_recv(c, &value));
        FIBER_ASSERT_EQ(value, 7);
        stel_chan_destroy(c);
    }
    if (mine) bury(p, sizeof *p);
}

enum { AHEAD = 3 };

static void keep_pace(_Atomic size_t *mine, const _Atomic size_t *theirs, size_t i) {
    atomic_store(mine, i);
    while (i > atomic_load(theirs) + AHEAD)
        stel_yield();
}

static int all_givers(void *arg) {
    field *f = arg;
    uint64_t random = test_seed() ^ 1;
    for (size_t i = 0; i < f->n; i++) {
        keep_pace(&f->given, &f->taken, i);
        crew_jitter(&random);
        give(&f->plots[i], f->kinds[i], &f->steps[i], &random);
    }
    atomic_store(&f->given, f->n);
    return 0;
}

static int all_takers(void *arg) {
    field *f = arg;
    uint64_t random = test_seed() ^ 2;
    for (size_t i = 0; i < f->n; i++) {
        keep_pace(&f->taken, &f->given, i);
        crew_jitter(&random);
        take(&f->plots[i], f->kinds[i], &f->steps[i], &random);
    }
    atomic_store(&f->taken, f->n);
    return 0;
}

/* Several pairs at a time, so that fibers change workers. */
static void play_the_field(enum crew_kind kind) {
    enum { PAIRS = 4 };
    field fields[PAIRS];
    crew_job jobs[2 * PAIRS];
    uint64_t random = test_seed();
    for (int k = 0; k < PAIRS; k++) {
        field *f = &fields[k];
        *f = (field){ .n = test_scale(8000) };
        f->plots = calloc(f->n, sizeof *f->plots);
        f->kinds = calloc(f->n, sizeof *f->kinds);
        f->steps = calloc(f->n, sizeof *f->steps);
        FIBER_ASSERT(f->plots && f->kinds && f->steps);
        for (size_t i = 0; i < f->n; i++) {
            f->kinds[i] = (uint8_t)test_random(&random, KINDS);
            lay_out(&f->plots[i], f->kinds[i]);
        }
        jobs[k] = (crew_job){ all_givers, f };
        jobs[PAIRS + k] = (crew_job){ all_takers, f };
    }
    crew_run(kind, jobs, 2 * PAIRS);
    for (int k = 0; k < PAIRS; k++) {
        graves_check(fields[k].plots, fields[k].n * sizeof(plot));
        free(fields[k].plots);
        free(fields[k].kinds);
        free(fields[k].steps);
    }
}

START_TEST(objects_end_with_the_hand_over) {
    graveyard_open();
    for (enum crew_kind kind = 0; kind < CREW_KINDS; kind++)
        play_the_field(kind);
    graveyard_close();
}
END_TEST

/* ---- scopes and tokens ---- */

typedef struct family {
    stel_scope scope; /* the first thing that is gone */
    stel_cancel_token *token;
    _Atomic int ran;
} family;

static int grandchild(void *arg) {
    family *f = arg;
    atomic_fetch_add(&f->ran, 1); /* ended, it is no more in the way: f is a child's as long as the scope is open */
    return 0;
}

static int child(void *arg) {
    family *f = arg;
    int rc =
        stel_scope_spawn(&f->scope, grandchild, f); /* a child may, as its scope cannot close before it has ended */
    FIBER_ASSERT(rc == 0 || rc == -ECANCELED || rc == -EBADMSG); /* a sibling's failure */
    uint64_t random = stel_self();
    crew_jitter(&random);
    if (test_random(&random, 8) == 0) stel_exit(-EBADMSG);
    return stel_sleep(test_random(&random, 3000));
}

static stel_waitgroup on_their_way; /* those that nobody joins */

static int cancels_the_token(void *arg) {
    FIBER_OK(stel_cancel_token_cancel(arg));
    stel_cancel_token_release(arg);
    stel_waitgroup_done(&on_their_way);
    return 0;
}

static int attaches_to_it(void *arg) {
    for (int i = 0; i < 3; i++) {
        stel_fiber f;
        FIBER_OK(stel_spawn(&f, grandchild, &(family){ .ran = 0 }));
        FIBER_OK(stel_cancel_token_attach(arg, f)); /* it may have ended, or be about to */
        FIBER_OK(stel_join(f, NULL));
    }
    stel_cancel_token_release(arg);
    stel_waitgroup_done(&on_their_way);
    return 0;
}

static int families(void *arg) {
    uint64_t random = test_seed() ^ stel_self();
    (void)arg;
    for (uint64_t i = test_scale(3000); i > 0; i--) {
        family *f = calloc(1, sizeof *f);
        FIBER_ASSERT(f != NULL);
        FIBER_OK(stel_scope_open(&f->scope, test_random(&random, 2)));
        FIBER_OK(stel_cancel_token_create(&f->token));
        for (uint32_t k = test_random(&random, 4); k > 0; k--)
            if (stel_scope_spawn(&f->scope, child, f) < 0) break;
        stel_waitgroup_add(&on_their_way, 2);
        FIBER_OK(stel_go(cancels_the_token, stel_cancel_token_retain(f->token)));
        FIBER_OK(stel_go(attaches_to_it, stel_cancel_token_retain(f->token)));
        stel_cancel_token_release(f->token);
        if (test_random(&random, 3) == 0) {
            stel_scope_close(&f->scope);
        } else {
            STEL_TIMEOUT((int64_t)test_random(&random, 5000));
            int rc = stel_scope_join(&f->scope);
            FIBER_ASSERT(rc == 0 || rc == -EBADMSG || rc == -ETIMEDOUT);
        }
        memset(f, 0xA5, sizeof *f); /* nobody is left who could mind */
        for (uint32_t k = test_random(&random, 3); k > 0; k--)
            stel_yield();
        for (size_t k = 0; k < sizeof *f; k++)
            if (((unsigned char *)f)[k] != 0xA5) FIBER_FAIL("byte %zu of a scope was written after its end", k);
        free(f);
    }
    return stel_waitgroup_wait(&on_their_way);
}

START_TEST(scopes_and_tokens_end_with_their_last_user) {
    graveyard_open();
    crew_run_same(CREW_WORKERS, families, NULL, 3);
    graveyard_close();
}
END_TEST

/* ---- buffers of calls that were cut short ---- */

enum { BUFFER_BYTES = 256, STACK_WATCHED = 6000 };
enum { BY_RECV, BY_SELECT, BY_READ, BY_POLL, BY_JOIN, BY_OFFLOAD, BY_NAME, WAYS };

typedef struct sources {
    stel_chan *chan;
    int pipe[2];
    stel_runtime *rt;
    _Atomic bool over;
} sources;

/* Sends where somebody may have just given up. */
static int feeds_channel(void *arg) {
    sources *s = arg;
    unsigned char element[BUFFER_BYTES];
    uint64_t random = test_seed();
    memset(element, 0xEE, sizeof element);
    while (!atomic_load(&s->over)) {
        STEL_TIMEOUT((int64_t)test_random(&random, 30000));
        int rc = stel_chan_send(s->chan, element);
        FIBER_ASSERT(rc == 0 || rc == -ETIMEDOUT);
        crew_jitter(&random);
    }
    return 0;
}

static int feeds_pipe(void *arg) {
    sources *s = arg;
    unsigned char element[BUFFER_BYTES];
    uint64_t random = test_seed() ^ 9;
    memset(element, 0xEE, sizeof element);
    while (!atomic_load(&s->over)) {
        struct pollfd p = { .fd = s->pipe[0], .events = POLLIN };
        if (poll(&p, 1, 0) == 0) FIBER_ASSERT_EQ(stel_write(s->pipe[1], element, sizeof element), sizeof element);
        (void)!stel_sleep(test_random(&random, 30000));
    }
    return 0;
}

static int ends_soon(void *arg) {
    return stel_sleep((int64_t)(intptr_t)arg);
}

static int blocks_a_little(void *arg) {
    struct timespec t = { 0, (long)(intptr_t)arg };
    nanosleep(&t, NULL);
    return 0x77777777;
}

typedef struct life {
    sources *s;
    uint32_t way, patience_ns, other_ns;
} life;

/* One call with its buffer here, and the end of this stack right after it. */
static int is_cut_short(void *arg) {
    const life *l = arg;
    sources *s = l->s;
    unsigned char buffer[BUFFER_BYTES];
    stel_case cases[3] = { STEL_CASE_RECV(s->chan, buffer), STEL_CASE_RECV(NULL, buffer),
                           STEL_CASE_RECV(s->chan, buffer) };
    struct pollfd asked[4] = { [0 ... 3] = { .fd = s->pipe[0], .events = POLLIN } };
    struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV }, *found;
    stel_fiber f;
    int rc;
    STEL_TIMEOUT((int64_t)l->patience_ns);
    switch (l->way) {
    case BY_RECV:
        return stel_chan_recv(s->chan, buffer);
    case BY_SELECT:
        return stel_select(cases, 3, 0);
    case BY_READ:
        return (int)stel_read(s->pipe[0], buffer, sizeof buffer);
    case BY_POLL:
        return stel_poll(asked, 4, -1);
    case BY_JOIN:
        FIBER_OK(stel_spawn(&f, ends_soon, (void *)(intptr_t)l->other_ns));
        rc = stel_join(f, (int *)(void *)buffer);
        if (rc < 0) FIBER_OK(stel_detach(f)); /* it may end at this very moment */
        return rc;
    case BY_OFFLOAD:
        return stel_offload((int *)(void *)buffer, blocks_a_little, (void *)(intptr_t)l->other_ns);
    default:
        rc = stel_getaddrinfo("127.0.0.1", "80", &hints, &found);
        if (rc == 0) freeaddrinfo(found);
        return rc;
    }
}

/* Gets the stack that somebody has just left, and sees whether anybody still writes to it. */
static int watches_its_stack(void *arg) {
    volatile unsigned char mine[STACK_WATCHED];
    unsigned char with = (unsigned char)(uintptr_t)arg;
    for (size_t i = 0; i < sizeof mine; i++)
        mine[i] = with;
    for (int looks = 0; looks < 3; looks++) {
        if (looks == 1)
            (void)!stel_sleep(STEL_US(30));
        else
            stel_yield();
        for (size_t i = 0; i < sizeof mine; i++)
            if (mine[i] != with) FIBER_FAIL("byte %zu of a stack was written by somebody else", i);
    }
    return 0;
}

static int lives_and_watches(void *arg) {
    enum { AT_ONCE = 16 };
    sources *s = arg;
    uint64_t random = test_seed() ^ stel_self();
    for (uint64_t round = test_scale(600); round > 0; round--) {
        life lives[AT_ONCE];
        stel_fiber f[2 * AT_ONCE];
        int result;
        for (int i = 0; i < AT_ONCE; i++) {
            uint32_t way = test_random(&random, 50);
            lives[i] =
                (life){ s, way < WAYS ? way : way % BY_POLL, test_random(&random, 60000), test_random(&random, 60000) };
            FIBER_OK(stel_spawn(&f[i], is_cut_short, &lives[i]));
        }
        for (uintptr_t i = 0; i < AT_ONCE; i++) {
            FIBER_OK(stel_join(f[i], &result));
            FIBER_ASSERT(result >= 0 || result == -ETIMEDOUT);
            FIBER_OK(stel_spawn(&f[AT_ONCE + i], watches_its_stack, (void *)(i + round)));
        }
        for (int i = 0; i < AT_ONCE; i++)
            FIBER_OK(stel_join(f[AT_ONCE + i], NULL));
    }
    return 0;
}

static int cut_everything_short(void *arg) {
    enum { PLAYERS = 3 };
    sources s = { .rt = stel_runtime_current() };
    stel_fiber f[PLAYERS], feeders[3];
    (void)arg;
    FIBER_OK(stel_chan_create(&s.chan, BUFFER_BYTES, 0));
    FIBER_ASSERT_EQ(pipe(s.pipe), 0);
    FIBER_OK(stel_spawn(&feeders[0], feeds_channel, &s));
    FIBER_OK(stel_spawn(&feeders[1], feeds_channel, &s));
    FIBER_OK(stel_spawn(&feeders[2], feeds_pipe, &s));
    for (int i = 0; i < PLAYERS; i++)
        FIBER_OK(stel_spawn(&f[i], lives_and_watches, &s));
    for (int i = 0; i < PLAYERS; i++)
        FIBER_OK(stel_join(f[i], NULL));
    atomic_store(&s.over, true);
    for (int i = 0; i < 3; i++)
        FIBER_OK(stel_join(feeders[i], NULL));
    stel_chan_destroy(s.chan);
    FIBER_OK(stel_close(s.pipe[0]));
    return stel_close(s.pipe[1]);
}

START_TEST(no_buffer_is_written_after_its_call) {
    graveyard_open();
    ck_assert_int_eq(run_in_runtime(3, cut_everything_short, NULL), 0);
    graveyard_close();
}
END_TEST

/* ---- control blocks that go from one fiber to the next ---- */

#define INDEX(handle) ((handle)&0xffffff)

typedef struct heirloom {
    stel_key key, inherited;
    stel_cancel_token *token;
    _Atomic int destroyed;
} heirloom;
static heirloom h;

static void destroyed(void *value) {
    (void)value;
    atomic_fetch_add(&h.destroyed, 1);
}
static void *not_inherited(void *value) {
    (void)value;
    return NULL;
}

static int leaves_much_behind(void *arg) {
    stel_scope s;
    FIBER_OK(stel_set_name("a name of thirty-one characters"));
    FIBER_OK(stel_set_priority(STEL_PRIORITY_LEAST_URGENT));
    FIBER_OK(stel_local_set(h.key, arg));
    FIBER_OK(stel_local_set(h.inherited, arg));
    FIBER_OK(stel_scope_open(&s, 0));
    FIBER_OK(stel_scope_join(&s));
    FIBER_OK(stel_cancel_token_attach(h.token, stel_self()));
    FIBER_OK(stel_unpark(stel_self()));
    (void)stel_deadline_push(stel_after(-STEL_SEC(1)));
    FIBER_ASSERT_EQ(stel_sleep(1), -ETIMEDOUT);
    (void)stel_shield_open(STEL_FOREVER);
    FIBER_OK(stel_cancel(stel_self()));
    return -EBADMSG;
}

static int finds_nothing(void *arg) {
    char name[40];
    int priority = 99;
    stel_fiber before = *(stel_fiber *)arg;
    FIBER_OK(stel_fiber_name(stel_self(), name, sizeof name));
    FIBER_ASSERT_EQ(name[0], 0);
    FIBER_OK(stel_fiber_priority(stel_self(), &priority));
    FIBER_ASSERT_EQ(priority, 0);
    FIBER_ASSERT(stel_local_get(h.key) == NULL && stel_local_get(h.inherited) == NULL);
    FIBER_ASSERT(!stel_cancelled() && !stel_timed_out());
    FIBER_ASSERT_EQ(stel_deadline(), STEL_FOREVER);
    FIBER_ASSERT_EQ(stel_join(before, NULL), -ESRCH); /* the old handle is nobody's: it does not mean us */
    FIBER_ASSERT_EQ(stel_cancel(before), -ESRCH);
    FIBER_ASSERT_EQ(stel_unpark(before), -ESRCH);
    FIBER_ASSERT_EQ(stel_detach(before), -ESRCH);
    FIBER_ASSERT_EQ(stel_cancel_token_attach(h.token, before), -ESRCH);
    FIBER_OK(stel_cancel_token_cancel(h.token)); /* nor was it us that was attached */
    {
        STEL_TIMEOUT(STEL_US(1));
        FIBER_ASSERT_EQ(stel_park(), -ETIMEDOUT); /* no token lies there */
    }
    FIBER_ASSERT(!stel_cancelled());
    (void)stel_deadline_push(stel_after(-1));
    return stel_sleep(STEL_US(1)); /* no shield is open */
}

static int one_after_the_other(void *arg) {
    uint64_t same = 0;
    (void)arg;
    FIBER_OK(stel_local_key(&h.key, destroyed));
    FIBER_OK(stel_local_key_inherited(&h.inherited, not_inherited, NULL));
    for (uint64_t round = test_scale(2000); round > 0; round--) {
        stel_fiber first, second;
        int result;
        FIBER_OK(stel_cancel_token_create(&h.token));
        FIBER_OK(stel_spawn(&first, leaves_much_behind, &h));
        FIBER_OK(stel_join(first, &result));
        FIBER_ASSERT_EQ(result, -EBADMSG);
        FIBER_OK(stel_spawn(&second, finds_nothing, &first));
        same += INDEX(first) == INDEX(second);
        FIBER_OK(stel_join(second, &result));
        FIBER_ASSERT_EQ(result, -ETIMEDOUT);
        stel_cancel_token_release(h.token);
    }
    FIBER_ASSERT_EQ(atomic_load(&h.destroyed), test_scale(2000));
    FIBER_ASSERT(same > 0); /* else this has shown nothing */
    return 0;
}

START_TEST(a_block_tells_nothing_of_its_last_fiber) {
    graveyard_open();
    ck_assert_int_eq(run_in_runtime(1, one_after_the_other, NULL), 0);
    graveyard_close();
}
END_TEST

/* ---- very many ---- */

static bool native(void) {
    return test_scale(100) == 100; /* the tools have allocators and mappings of their own */
}

static size_t heap_bytes(void) {
    struct mallinfo2 m = mallinfo2();
    return native() ? m.uordblks + m.hblkhd : 0;
}

static size_t mappings(void) {
    FILE *f = fopen("/proc/self/maps", "r");
    size_t lines = 0;
    FIBER_ASSERT(f != NULL);
    for (int c; (c = getc(f)) != EOF;)
        lines += c == '\n';
    fclose(f);
    return native() ? lines : 0;
}

static void freed(void *value) {
    free(value);
}

static int nothing(void *arg) {
    return arg != NULL;
}

/* A bit of everything that a fiber can own. */
static int short_life(void *arg) {
    uintptr_t i = (uintptr_t)arg;
    stel_fiber f;
    if (i % 4 == 1) {
        FIBER_OK(stel_set_name("short"));
        char *value = malloc(i % 200 + 1);
        FIBER_ASSERT(value != NULL);
        FIBER_OK(stel_local_set(h.key, value));
    } else if (i % 8 == 2) {
        STEL_SCOPE(s);
        FIBER_OK(stel_scope_spawn(&s, nothing, NULL));
    } else if (i % 32 == 3) {
        FIBER_OK(stel_spawn_after(&f, STEL_FOREVER, nothing, NULL));
        FIBER_OK(stel_cancel(f));
        FIBER_OK(stel_join(f, NULL));
    } else if (i % 64 == 7) {
        STEL_TIMEOUT(STEL_US(1));
        (void)!stel_sleep(STEL_SEC(1));
        stel_exit(1);
    }
    return 0;
}

static int very_many(void *arg) {
    enum { BATCH = 1000, WARM = 10 };
    uint64_t batches = test_scale(1000) + WARM;
    size_t heap = 0, maps = 0, reserved = 0;
    int descriptors = 0;
    stel_stats s;
    (void)arg;
    FIBER_OK(stel_local_key(&h.key, freed));
    for (uint64_t b = 0; b < batches; b++) {
        stel_fiber f[BATCH];
        int keep = b % 2;
        for (uintptr_t i = 0; i < BATCH; i++)
            FIBER_OK(keep || i % 16 ? stel_spawn(&f[i], short_life, (void *)(i + b))
                                    : (f[i] = 0, stel_go(nothing, NULL)));
        for (uintptr_t i = 0; i < BATCH; i++)
            if (f[i]) FIBER_OK(stel_join(f[i], NULL));
        if (b + 1 != WARM && b + 1 != batches) continue;
        FIBER_OK(stel_runtime_stats(stel_runtime_current(), &s));
        if (b + 1 == WARM) {
            heap = heap_bytes();
            maps = mappings();
            descriptors = test_open_descriptors();
            reserved = s.stacks_reserved;
        }
    }
    /* Not a byte a fiber: what the last batches may need more than the first is a matter of a few hundred fibers. */
    ck_assert_uint_le(heap_bytes(), heap + (128 << 10));
    ck_assert_uint_le(mappings(), maps + 4);
    ck_assert_uint_le(s.stacks_reserved, reserved + 4 * BATCH);
    FIBER_ASSERT_EQ(test_open_descriptors(), descriptors);
    FIBER_ASSERT(s.total_tasks_executed >= test_scale(1000) * BATCH);
    return 0;
}

START_TEST(a_million_short_lives) {
    ck_assert_int_eq(run_in_runtime(2, very_many, NULL), 0);
}
END_TEST

/* Everything that a runtime can own, once. */
static int a_full_life(void *arg) {
    stel_fiber f[32];
    int p[2];
    char byte;
    stel_chan *c;
    (void)arg;
    FIBER_ASSERT_EQ(pipe(p), 0);
    FIBER_OK(stel_chan_create(&c, 8, 2));
    for (uintptr_t i = 0; i < 32; i++)
        FIBER_OK(stel_spawn(&f[i], short_life, (void *)i));
    for (int i = 0; i < 32; i++)
        FIBER_OK(stel_join(f[i], NULL));
    {
        STEL_TIMEOUT(STEL_US(50));
        FIBER_ASSERT_EQ(stel_read(p[0], &byte, 1), -ETIMEDOUT);
    }
    FIBER_OK(stel_offload(NULL, nothing, NULL));
    stel_chan_destroy(c);
    FIBER_OK(stel_close(p[0]));
    return stel_close(p[1]);
}

START_TEST(a_thousand_runtimes_leave_nothing) {
    enum { WARM = 10 };
    uint64_t rounds = test_scale(1000) + WARM;
    int64_t blocks = 0, bytes = 0;
    size_t maps = 0;
    int descriptors = 0;
    graveyard_open();
    ck_assert_int_eq(stel_local_key(&h.key, freed), 0);
    for (uint64_t i = 0; i < rounds; i++) {
        ck_assert_int_eq(run_in_runtime(1 + (int)(i % 3), a_full_life, NULL), 0);
        if (i + 1 != WARM) continue;
        blocks = atomic_load(&graveyard.blocks);
        bytes = atomic_load(&graveyard.bytes);
        maps = mappings();
        descriptors = test_open_descriptors();
    }
    /* Threads of the offload pool, and what they wait with, may come and go. */
    ck_assert_int_le(atomic_load(&graveyard.blocks), blocks + 8);
    ck_assert_int_le(atomic_load(&graveyard.bytes), bytes + 4096);
    ck_assert_uint_le(mappings(), maps + 8);
    ck_assert_int_eq(test_open_descriptors(), descriptors);
    EVENTUALLY(test_library_threads() <= 2);
    graveyard_close();
}
END_TEST

TEST_MAIN("stress/memory_safety", objects_end_with_the_hand_over, scopes_and_tokens_end_with_their_last_user,
          no_buffer_is_written_after_its_call, a_block_tells_nothing_of_its_last_fiber, a_million_short_lives,
          a_thousand_runtimes_leave_nothing)
