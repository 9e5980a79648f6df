/* The fence with a light and a heavy side: what it orders, and what becomes of it where the kernel refuses.
 * ctest: labels=qemu */
#include "check_fiber.h"
#include "host/fault.h"
#include "host/host.h"
#include <pthread.h>

/* Two threads write a word each and then read the other's: not both may find the old value. They meet before each
 * round by waiting for the other's number. */
typedef struct duel {
    STEL__ALIGNED(64) _Atomic uint64_t light, heavy; /* what they write: the round */
    STEL__ALIGNED(64) _Atomic uint64_t light_ready;
    STEL__ALIGNED(64) _Atomic uint64_t heavy_ready;
    uint64_t rounds;
    uint64_t *seen_by_light, *seen_by_heavy;
    bool refuse_midway;
} duel;

static void meet(_Atomic uint64_t *mine, _Atomic uint64_t *other, uint64_t round) {
    stel__store_release(mine, round);
    for (unsigned spins = 0; stel__load_acquire(other) < round; spins++)
        if (spins > 2000) sched_yield();
}

static void *heavy_side(void *arg) {
    duel *d = arg;
    for (uint64_t i = 1; i <= d->rounds; i++) {
        meet(&d->heavy_ready, &d->light_ready, i);
        stel__store_relaxed(&d->heavy, i);
        if (d->refuse_midway && i == d->rounds / 2) stel__fault_set(STEL__FAULT_MEMBARRIER, 1, EPERM, true);
        stel__fence_heavy();
        d->seen_by_heavy[i - 1] = stel__load_relaxed(&d->light);
    }
    return NULL;
}

static void fight(bool refuse_midway) {
    duel *d = stel__alloc_aligned(64, sizeof *d);
    ck_assert_ptr_nonnull(d);
    *d = (duel){ .rounds = test_scale(20000), .refuse_midway = refuse_midway };
    d->seen_by_light = calloc(d->rounds, sizeof *d->seen_by_light);
    d->seen_by_heavy = calloc(d->rounds, sizeof *d->seen_by_heavy);
    pthread_t t;
    ck_assert_int_eq(pthread_create(&t, NULL, heavy_side, d), 0);
    for (uint64_t i = 1; i <= d->rounds; i++) {
        meet(&d->light_ready, &d->heavy_ready, i);
        stel__store_relaxed(&d->light, i);
        stel__fence_light();
        d->seen_by_light[i - 1] = stel__load_relaxed(&d->heavy);
    }
    pthread_join(t, NULL);
    for (uint64_t i = 0; i < d->rounds; i++)
        ck_assert_msg(d->seen_by_light[i] > i || d->seen_by_heavy[i] > i, "round %lu: neither saw the other",
                      (unsigned long)i);
    free(d->seen_by_light);
    free(d->seen_by_heavy);
    stel__free(d);
}

START_TEST(one_sees_the_other) {
    stel__fence_init();
    fight(false);
}
END_TEST

START_TEST(refused_from_the_start) {
    stel__fault_set(STEL__FAULT_MEMBARRIER, 1, ENOSYS, true);
    stel__fence_init();
    ck_assert(!stel__load_relaxed(&stel__fence_is_light));
    fight(false);
    stel__fault_clear();
    stel__fence_init(); /* decided once */
    ck_assert(!stel__load_relaxed(&stel__fence_is_light));
}
END_TEST

START_TEST(refused_later) {
    stel__fence_init();
    fight(true);
    ck_assert(!stel__load_relaxed(&stel__fence_is_light));
    stel__fault_clear();
}
END_TEST

TEST_MAIN("host/fence", one_sees_the_other, refused_from_the_start, refused_later)
