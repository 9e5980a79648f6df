/* Stacks: classes, tops, guards that hold, caches and lists, the scavenger, running out, figures, threads. */
#include "host/fault.h"
#include "host/stack.h"
#include "in_child.h"
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>

static stel__stack_cache cache = { .limit = 64 };

/* Does the kernel refuse to read this byte for us? */
static bool refused(const void *address) {
    int ends[2];
    FIBER_ASSERT(pipe(ends) == 0);
    bool no = write(ends[1], address, 1) < 0;
    close(ends[0]);
    close(ends[1]);
    return no;
}

static bool resident(const void *address) {
    unsigned char answer = 0;
    uintptr_t page = (uintptr_t)address & ~(uintptr_t)4095;
    FIBER_ASSERT(mincore((void *)page, 4096, &answer) == 0);
    return answer & 1;
}

static int map_lines(void) {
    FILE *f = fopen("/proc/self/maps", "r");
    int c, n = 0;
    FIBER_ASSERT(f);
    while ((c = getc(f)) != EOF)
        n += c == '\n';
    fclose(f);
    return n;
}

static char *low_of(const stel__stack *s) {
    return stel__stack_low(s);
}
static char *top_of(const stel__stack *s) {
    return stel__stack_top(s);
}

START_TEST(classes) {
    ck_assert_int_eq(stel__stack_class(1), 0);
    ck_assert_int_eq(stel__stack_class(12288), 0);
    ck_assert_int_eq(stel__stack_class(12289), 1);
    ck_assert_int_eq(stel__stack_class(65536 - 4096), 2);
    ck_assert_int_eq(stel__stack_class(262144 - 4096), 4);
    ck_assert_int_eq(stel__stack_class(262144), 5);
    ck_assert_int_eq(stel__stack_class((64u << 20) - 4096), 12);
    ck_assert_int_eq(stel__stack_class(64u << 20), -EINVAL);
    ck_assert_int_eq(stel__stack_class(SIZE_MAX), -EINVAL);
    for (int class = 0; class <= 12; class ++) {
        stel__stack *s = stel__stack_get(&cache, class);
        ck_assert_ptr_nonnull(s);
        ck_assert_int_eq(stel__stack_class_of(s), class);
        size_t usable = (size_t)(top_of(s) - low_of(s));
        ck_assert_uint_le(usable, stel__stack_class_bytes(class) - 4096);
        ck_assert_uint_ge(usable, stel__stack_class_bytes(class) - 4096 - 2112);
        ck_assert_uint_eq((uintptr_t)top_of(s) % 64, 0);
        *low_of(s) = 1;
        top_of(s)[-1] = 1;
        ck_assert(refused(low_of(s) - 1));
        ck_assert(refused(low_of(s) - 4096));
        stel__stack_put(&cache, s);
    }
}
END_TEST

START_TEST(guard_pages_are_settable_before_the_first_stack) {
    ck_assert_int_eq(stel__stack_set_guard_pages(0), -EINVAL);
    ck_assert_int_eq(stel__stack_set_guard_pages(17), -EINVAL);
    ck_assert_int_eq(stel__stack_set_guard_pages(16), 0);
    ck_assert_int_eq(stel__stack_set_guard_pages(3), 0);
    ck_assert_int_eq(stel__stack_class(12288), 1); /* 16 KiB less three pages is too little */
    stel__stack *s = stel__stack_get(&cache, 1);
    ck_assert_ptr_eq(stel__stack_of_guard(low_of(s) - 3 * 4096), s);
    ck_assert(refused(low_of(s) - 3 * 4096));
    *low_of(s) = 1;
    ck_assert_int_eq(stel__stack_set_guard_pages(3), 0);
    ck_assert_int_eq(stel__stack_set_guard_pages(1), -EBUSY);
    stel__stack_put(&cache, s);
}
END_TEST

START_TEST(tops_are_coloured) {
    enum { STACKS = 34 };
    bool seen[STACKS] = { false };
    for (int i = 0; i < STACKS; i++) {
        stel__stack *s = stel__stack_get(&cache, 2);
        seen[(4096 - (uintptr_t)top_of(s) % 4096) % 4096 / 64] = true;
    }
    int colours = 0;
    for (int i = 0; i < STACKS; i++)
        colours += seen[i];
    ck_assert_int_eq(colours, STACKS);
}
END_TEST

START_TEST(each_stack_is_its_own) {
    enum { STACKS = 300 };
    stel__stack *s[STACKS];
    for (int i = 0; i < STACKS; i++) {
        s[i] = stel__stack_get(&cache, i % 3);
        ck_assert_ptr_nonnull(s[i]);
        /* Its neighbours below and above would see it. */
        *(int *)(void *)low_of(s[i]) = i;
        ((int *)(void *)top_of(s[i]))[-1] = -i;
    }
    for (int i = 0; i < STACKS; i++) {
        ck_assert_int_eq(*(int *)(void *)low_of(s[i]), i);
        ck_assert_int_eq(((int *)(void *)top_of(s[i]))[-1], -i);
        ck_assert_ptr_eq(stel__stack_of_guard(low_of(s[i]) - 1), s[i]);
        ck_assert_ptr_null(stel__stack_of_guard(low_of(s[i])));
        ck_assert_ptr_null(stel__stack_of_guard(top_of(s[i]) - 1));
    }
    ck_assert_ptr_null(stel__stack_of_guard(NULL));
    ck_assert_ptr_null(stel__stack_of_guard(&cache));
    for (int i = 0; i < STACKS; i++)
        stel__stack_put(&cache, s[i]);
}
END_TEST

START_TEST(the_cache_is_last_in_first_out_and_bounded) {
    enum { STACKS = 1000 };
    static stel__stack *s[STACKS];
    for (int i = 0; i < STACKS; i++)
        s[i] = stel__stack_get(&cache, 0);
    for (int i = 0; i < STACKS; i++) {
        stel__stack_put(&cache, s[i]);
        ck_assert_uint_le(stel__load_relaxed(&cache.count[0]), cache.limit);
        stel__stack *again = stel__stack_get(&cache, 0);
        ck_assert_ptr_eq(again, s[i]);
        stel__stack_put(&cache, again);
    }
    stel__stack_figures f;
    stel__stack_figures_get(&f);
    ck_assert_uint_eq(f.in_use, 0);
    /* All of them come back from the process-wide lists, none twice, none fresh. */
    uint64_t reserved = f.reserved;
    for (int i = 0; i < STACKS; i++)
        s[i] = stel__stack_get(&cache, 0);
    stel__stack_figures_get(&f);
    ck_assert_uint_eq(f.reserved, reserved);
    ck_assert_uint_eq(f.in_use, STACKS);
    for (int i = 0; i < STACKS; i++)
        *low_of(s[i]) = 0;
    for (int i = 0; i < STACKS; i++)
        ck_assert_int_eq((*low_of(s[i]))++, 0);
    for (int i = 0; i < STACKS; i++)
        stel__stack_put(&cache, s[i]);
    stel__stack_cache_flush(&cache);
    stel__stack_figures_get(&f);
    ck_assert_uint_eq(f.in_use, 0);
    ck_assert_ptr_null(cache.head[0]);
}
END_TEST

START_TEST(large_classes_are_hardly_cached) {
    stel__stack *s[4];
    for (int i = 0; i < 4; i++)
        s[i] = stel__stack_get(&cache, 12);
    for (int i = 0; i < 4; i++)
        stel__stack_put(&cache, s[i]);
    ck_assert_uint_eq(stel__load_relaxed(&cache.count[12]), 0);
    stel__stack_cache none = { .limit = 0 };
    stel__stack_put(&none, stel__stack_get(&none, 0));
    ck_assert_uint_eq(stel__load_relaxed(&none.count[0]), 0);
    stel__stack_cache_flush(&none);
}
END_TEST

START_TEST(few_mappings) {
    int before = map_lines();
    uint64_t n = test_scale(200000), fewer = 10000;
    for (uint64_t i = 0; i < n; i++) {
        stel__stack *s = stel__stack_get(&cache, 4);
        ck_assert_ptr_nonnull(s);
        /* Where a guard costs mappings, these are as many as there may safely be. */
        if (stel__guard_rung_now() >= STEL__GUARD_PROTECT && n > fewer) n = fewer;
        if (i % 97 == 0) top_of(s)[-1] = 1;
        if (i % 10007 == 0) ck_assert(refused(low_of(s) - 1));
    }
    stel__stack_figures f;
    stel__stack_figures_get(&f);
    ck_assert_uint_eq(f.unguarded, 0);
    ck_assert_uint_eq(f.in_use, n);
    ck_assert_uint_ge(f.bytes_reserved, n * 262144);
    /* Where guards cost a mapping each, or a sanitizer's shadow shows too, there is nothing to see here. */
#ifdef STEL__SANITIZED
    before = INT32_MAX / 2;
#endif
    if (stel__guard_rung_now() == STEL__GUARD_BATCH) ck_assert_int_le(map_lines(), before + 20);
}
END_TEST

START_TEST(the_scavenger_takes_what_was_not_needed) {
    enum { STACKS = 600 };
    static stel__stack *s[STACKS];
    for (int i = 0; i < STACKS; i++) {
        s[i] = stel__stack_get(&cache, 2);
        memset(low_of(s[i]), 1, 3 * 4096);
        top_of(s[i])[-1] = 1;
    }
    ck_assert_uint_eq(stel__stack_scavenge(), 0); /* nothing has been put back */
    for (int i = 0; i < STACKS; i++)
        stel__stack_put(&cache, s[i]);
    ck_assert_uint_eq(stel__stack_scavenge(), 0); /* but it was needed since the last call */
    ck_assert(resident(low_of(s[0])));
    size_t cached = stel__load_relaxed(&cache.count[2]), cleaned = 0, n;
    ck_assert_uint_eq(n = stel__stack_scavenge(), STEL__STACK_SCAVENGE_MAX);
    for (cleaned = n; n == STEL__STACK_SCAVENGE_MAX; cleaned += n)
        n = stel__stack_scavenge();
    ck_assert_uint_ge(cleaned, STACKS - cached); /* and those of the last batch that nobody got */
    size_t there = 0;
    for (int i = 0; i < STACKS; i++) {
        there += resident(low_of(s[i])) || resident(low_of(s[i]) + 8192) || resident(top_of(s[i]) - 1);
        ck_assert(refused(low_of(s[i]) - 1)); /* guards stay */
    }
    ck_assert_uint_eq(there, cached);
    ck_assert_uint_eq(stel__stack_scavenge(), 0);
    for (int i = 0; i < STACKS; i++) {
        s[i] = stel__stack_get(&cache, 2);
        if (!resident(low_of(s[i]))) ck_assert_int_eq(*low_of(s[i]), 0);
    }
    for (int i = 0; i < STACKS; i++)
        stel__stack_put(&cache, s[i]);
}
END_TEST

START_TEST(the_scavenger_without_batches) {
    static stel__stack *s[200];
    stel__fault_set(STEL__FAULT_PROCESS_MADVISE, 1, EPERM, true);
    for (int i = 0; i < 200; i++) {
        s[i] = stel__stack_get(&cache, 2);
        memset(low_of(s[i]), 1, 4096);
    }
    for (int i = 0; i < 200; i++)
        stel__stack_put(&cache, s[i]);
    stel__stack_cache_flush(&cache);
    ck_assert_uint_eq(stel__stack_scavenge(), 0);
    ck_assert_uint_ge(stel__stack_scavenge(), 200);
    for (int i = 0; i < 200; i++)
        ck_assert(!resident(low_of(s[i])));
}
END_TEST

START_TEST(running_out_and_recovering) {
    stel__stack *first = stel__stack_get(&cache, 3);
    ck_assert_ptr_nonnull(first);
    stel__fault_set(STEL__FAULT_MMAP, 1, ENOMEM, true);
    static stel__stack *s[5000];
    int n = 0;
    while (n < 5000 && (s[n] = stel__stack_get(&cache, 3)) != NULL)
        n++;
    ck_assert_int_lt(n, 64); /* what the first region had */
    ck_assert(stel__stack_starved());
    ck_assert_ptr_null(stel__stack_get(&cache, 3));
    /* One comes free: it goes where others find it, and may be had again. */
    stel__stack_put(&cache, first);
    ck_assert(!stel__stack_starved());
    ck_assert_uint_eq(stel__load_relaxed(&cache.count[3]), 0);
    ck_assert_ptr_eq(stel__stack_get(&cache, 3), first);
    ck_assert_ptr_null(stel__stack_get(&cache, 3));
    ck_assert(stel__stack_starved());
    stel__fault_clear();
    ck_assert(!stel__stack_starved()); /* room from elsewhere, and no stack has come back: it asks */
    stel__fault_set(STEL__FAULT_MMAP, 1, ENOMEM, true);
    s[n] = stel__stack_get(&cache, 3);
    ck_assert_ptr_nonnull(s[n]);
}
END_TEST

START_TEST(nobody_keeps_any_while_somebody_waits) {
    enum { N = 20 };
    stel__stack_cache other = { .limit = 64 };
    stel__stack *s[N];
    for (int i = 0; i < N; i++)
        ck_assert_ptr_nonnull(s[i] = stel__stack_get(&cache, 3));
    for (int i = 1; i < N; i++)
        stel__stack_put(&cache, s[i]);
    uint32_t kept = stel__load_relaxed(&cache.count[3]);
    ck_assert_uint_ge(kept, N - 1);
    stel__stack_wanted(true);
    stel__stack_wanted(true);
    stel__stack_wanted(false);
    stel__stack_put(&cache, s[0]); /* and the others with it */
    ck_assert_uint_eq(stel__load_relaxed(&cache.count[3]), 0);
    for (uint32_t i = 0; i <= kept; i++) {
        ck_assert_ptr_nonnull(stel__stack_get(&other, 3)); /* one, and none on top of it */
        ck_assert_uint_eq(stel__load_relaxed(&other.count[3]), 0);
    }
    stel__stack_wanted(false);
    stel__stack_put(&cache, s[0]);
    ck_assert_uint_eq(stel__load_relaxed(&cache.count[3]), 1);
    ck_assert_uint_eq(stel__stack_cache_share(&cache), 1);
    ck_assert_uint_eq(stel__stack_cache_share(&cache), 0);
    ck_assert_ptr_eq(stel__stack_get(&other, 3), s[0]);
    stel__stack_cache_flush(&other);
}
END_TEST

START_TEST(no_memory_for_descriptors) {
    stel__stack *none;
    stel__fault_set(STEL__FAULT_ALLOC, 1, ENOMEM, true);
    none = stel__stack_get(&cache, 3);
    ck_assert_ptr_null(none);
    stel__fault_clear();
    ck_assert_ptr_nonnull(stel__stack_get(&cache, 3));
}
END_TEST

#ifndef STEL__SANITIZED /* whose shadow memory needs room of its own */
/* Under RLIMIT_AS, or where nothing may be overcommitted, regions get smaller; what fits is used. */
static void with_little_room(void *unused) {
    (void)unused;
    FILE *f = fopen("/proc/self/statm", "r");
    long pages = 0;
    FIBER_ASSERT(f && fscanf(f, "%ld", &pages) == 1);
    fclose(f);
    struct rlimit limit = { (rlim_t)pages * 4096 + (13 << 20), RLIM_INFINITY };
    FIBER_ASSERT(setrlimit(RLIMIT_AS, &limit) == 0);
    int n = 0;
    while (stel__stack_get(&cache, 4))
        n++;
    FIBER_ASSERT(n >= 36 && n <= 52); /* of 256 KiB each; 13 MiB hold 52 */
}

START_TEST(little_room) {
    if (test_emulated())
        puts("little_room: left out: qemu-user ignores RLIMIT_AS");
    else if (!stel__sanitize_valgrind())
        in_child_ok(with_little_room, NULL);
}
END_TEST
#else
START_TEST(little_room) {}
END_TEST
#endif

/* Threads with a cache each get and put at random, and pass stacks to each other. */
enum { THREADS = 4, HELD = 100 };
static stel__stack *_Atomic exchange[16];

static void *worker(void *arg) {
    stel__stack_cache mine = { .limit = 8 };
    stel__stack *held[HELD] = { NULL };
    uint64_t random = test_seed() + (uintptr_t)arg;
    for (uint64_t i = test_scale(100000); i > 0; i--) {
        uint32_t at = test_random(&random, HELD);
        if (!held[at]) {
            held[at] = stel__stack_get(&mine, (int)test_random(&random, 3));
            FIBER_ASSERT(held[at]);
            *(void **)(void *)low_of(held[at]) = held[at];
            continue;
        }
        FIBER_ASSERT(*(void **)(void *)low_of(held[at]) == held[at]);
        if (test_random(&random, 2)) {
            held[at] = stel__xchg_acq_rel(&exchange[test_random(&random, 16)], held[at]); /* pairs with itself */
        } else {
            stel__stack_put(&mine, held[at]);
            held[at] = NULL;
        }
        if (arg == NULL && i % 512 == 0) stel__stack_scavenge();
    }
    for (int i = 0; i < HELD; i++)
        if (held[i]) stel__stack_put(&mine, held[i]);
    stel__stack_cache_flush(&mine);
    return NULL;
}

START_TEST(many_threads) {
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        ck_assert_int_eq(stel__thread_start(&threads[i], "stacks", worker, (void *)i), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 16; i++)
        if (exchange[i]) stel__stack_put(&cache, exchange[i]);
    stel__stack_figures f;
    stel__stack_figures_get(&f);
    ck_assert_uint_le(f.in_use, 16); /* our cache is known only once it had to ask */
    stel__stack_cache_flush(&cache);
    stel__stack_figures_get(&f);
    ck_assert_uint_eq(f.in_use, 0);
}
END_TEST

TEST_MAIN("host/stack", classes, guard_pages_are_settable_before_the_first_stack, tops_are_coloured,
          each_stack_is_its_own, the_cache_is_last_in_first_out_and_bounded, large_classes_are_hardly_cached,
          few_mappings, the_scavenger_takes_what_was_not_needed, the_scavenger_without_batches,
          running_out_and_recovering, nobody_keeps_any_while_somebody_waits, no_memory_for_descriptors, little_room,
          many_threads)
