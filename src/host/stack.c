/* Stacks: where they come from, where they go, and what they cost.
 *
 * Nouns
 *   slot     a power of two of address space, 16 KiB (class 0) ... 64 MiB (class 12): guard at its low end, stack
 *            above, growing down from the coloured top. Slots are aligned to their size, so the slot follows from the top
 *   region   a chunk of slots of one class, reserved by one mmap. Never unmapped: descriptors and the table of regions
 *            are type-stable, so that a signal handler can look up an address without a lock
 *   stack    the descriptor of a slot, 16 bytes in an array beside its region; linked where it lies (below)
 *   cache    a worker's own LIFO list for each class: getting a stack and putting it back is a pop and a push
 *
 * Life of a slot, and who takes each edge
 *   reserved -> ready        make_ready: its guard is made and its descriptor filled in, in batches
 *   ready    -> clean list   make_ready, for what the asking worker's cache does not take
 *   any list -> cache        get_slow: recent first (its pages are still there), then old, then clean
 *   cache    -> in use       stel__stack_get, and back with stel__stack_put
 *   cache    -> recent list  stel__stack_spill (too many), stel__stack_cache_share, put_watched (we ran out)
 *   recent   -> old list     scavenge, when old is empty
 *   old      -> clean list   scavenge, after the pages have gone back to the kernel
 * So what the scavenger takes has lain untouched for one whole period at least; and no list is ever searched.
 *
 * Shortage. A cache is its owner's alone, so what lies there is lost for everybody else. While somebody waits for a stack
 * (stel__stack_wanted) nobody keeps any: what is put back goes to the recent list together with the rest of its cache,
 * and a stack is taken alone, without others for the cache. What lies with an owner who neither gets nor puts is for the
 * scheduler to fetch: it makes its workers share.
 *
 * Regions. Small at first (64 slots), each twice the last up to 1 GiB, so that a program with ten fibers reserves
 * little and one with a million needs few. MAP_NORESERVE does not help where the administrator forbids overcommitment,
 * nor under RLIMIT_AS: then half as much is asked for, down to one slot. A region is put right below the last one and
 * all get the same advice and the same name before their first page is touched: so the kernel merges them, and a
 * million stacks show as a few lines in /proc/self/maps. (A name for each stack would split the mapping.) Without huge
 * pages: one touched page must not cost 2 MiB.
 *
 * Colour. Stacks whose tops have the same page offset fight for the same cache sets: 32 fibers that touch just the top
 * of their stacks run five times faster when the tops are spread over (i * 7 % 34) * 64 bytes.
 *
 * Invariants
 *   1. A stack is on one list, in one cache, or in use.
 *   2. A region's fields do not change once it is in the table, but for handed (class lock) and descriptors of slots
 *      not yet ready (whoever claimed the batch).
 *   3. guard_pages does not change once a region exists.
 *   4. stel__stack_watch is not 0 while a stack without guard exists (bit 0), the last attempt to get one failed (bit
 *      1), or somebody waits for one (their number, from bit 2 on).
 *
 * Pairs: table count (release in publish) with stel__stack_region_of (acquire). All else is under a class's lock.
 *
 * Tried and dropped: descriptors at the slot's low end (touches a second page of every stack); one list with a
 * low-water mark for the scavenger (its cut has to be walked to). */
#include "host/stack.h"
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA           0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

enum {
    FIRST_SLOTS = 64,
    FIRST_BATCH = 8, /* then as many as there are, up to STEL__STACK_BATCH: few fibers, few guards */
    USABLE_MIN = 8192,
    COLOURS = 34, /* so that 1,984 bytes of the top page are left to each: what a wait for a descriptor takes */
    COLOUR_STEP = 7,
    WATCH_UNGUARDED = 1,
    WATCH_STARVED = 2,
    WATCH_WANTED = 4, /* times the number of those who wait */
    LARGE_CLASS = 4   /* above it, caches hold fewer: 256 KiB slots and smaller are cached in full number */
};
#define REGION_BYTES_MAX ((size_t)1 << 30)

_Static_assert((COLOURS - 1) * 64 < STEL__PAGE, "the colour stays within the top page");
_Static_assert((int)STEL__STACK_CLASSES_USED <= (int)STEL__STACK_CLASSES, "classes fit the descriptor");
_Static_assert(sizeof(struct iovec) <= sizeof(stel__stack), "ranges fit where descriptors will be");
_Static_assert((STEL__STACK_CLASS_MASK & STEL__STACK_UNGUARDED) == 0 && STEL__STACK_UNGUARDED < 64, "flags fit");

typedef struct chain {
    stel__stack *head;
    size_t count;
} chain;

typedef struct stack_class {
    STEL__ALIGNED(STEL__CACHE_LINE) stel__lock lock;
    /* under lock */
    chain recent, old, clean;
    stel__region *region; /* the one that slots are handed out of */
    size_t next_slots;    /* of the next region */
    uint64_t ready;       /* slots made ready, ever */
} stack_class;

static stack_class classes[STEL__STACK_CLASSES_USED];

static stel__region table[STEL__STACK_REGIONS_MAX];
static _Atomic uint32_t table_count;
static stel__lock table_lock; /* inside a class's lock */
static uintptr_t lowest_base; /* under table_lock: where the next region would merge with the last */

static _Atomic int guard_pages;
static _Atomic uint64_t unguarded_count, bytes_reserved;
static _Atomic int starved_class; /* which one ran out last */
_Atomic unsigned stel__stack_watch;

static stel__lock caches_lock; /* before a class's lock, never inside one */
static stel__list caches;

/* ---- sizes ---- */

static size_t page_bytes(void) {
    static _Atomic size_t cached;
    size_t bytes = stel__load_relaxed(&cached); /* the same value, whoever stores it */
    if (bytes == 0) {
        bytes = (size_t)sysconf(_SC_PAGESIZE);
        stel__store_relaxed(&cached, bytes);
    }
    return bytes;
}

size_t stel__stack_guard_bytes(void) {
    int pages = stel__load_relaxed(&guard_pages);
    return (size_t)(pages ? pages : 1) * page_bytes();
}

size_t stel__stack_class_bytes(int class) {
    return (size_t)STEL__STACK_SLOT_MIN << class;
}

int stel__stack_class(size_t usable_bytes) {
    if (usable_bytes < USABLE_MIN) usable_bytes = USABLE_MIN;
    for (int class = 0; class < STEL__STACK_CLASSES_USED; class ++) {
        size_t slot = stel__stack_class_bytes(class), guard = stel__stack_guard_bytes();
        if (slot > guard && slot - guard >= usable_bytes) return class;
    }
    return -EINVAL;
}

int stel__stack_set_guard_pages(int pages) {
    if (pages < 1 || pages > 16) return -EINVAL;
    stel__lock_take(&table_lock);
    int now = stel__load_relaxed(&guard_pages), rc = 0;
    if (stel__load_relaxed(&table_count) > 0 && (now ? now : 1) != pages)
        rc = -EBUSY;
    else
        stel__store_relaxed(&guard_pages, pages);
    stel__lock_give(&table_lock);
    return rc;
}

void *stel__stack_low(const stel__stack *s) {
    return (void *)(stel__stack_slot(s) + stel__stack_guard_bytes());
}

/* ---- regions ---- */

static int map_at(uintptr_t hint, size_t bytes, uintptr_t *out) {
    void *p = NULL;
    int rc = stel__sys_mmap(&p, (void *)hint, bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    *out = (uintptr_t)p;
    return rc;
}

/* bytes of address space, aligned: right below the last region if that is free, else cut out of a larger piece. */
static int map_aligned(size_t bytes, size_t alignment, uintptr_t *out) {
    if (lowest_base > bytes) {
        uintptr_t hint = (lowest_base - bytes) & ~(alignment - 1);
        int rc = map_at(hint, bytes, out);
        if (rc < 0) return rc;
        if ((*out & (alignment - 1)) == 0) return 0;
        (void)stel__sys_munmap((void *)*out, bytes);
    }
    uintptr_t low;
    int rc = map_at(0, bytes + alignment, &low);
    if (rc < 0) return rc;
    uintptr_t base = (low + alignment - 1) & ~(alignment - 1);
    if (base > low) (void)stel__sys_munmap((void *)low, base - low);
    size_t above = low + alignment - base;
    if (above > 0) (void)stel__sys_munmap((void *)(base + bytes), above);
    *out = base;
    return 0;
}

static stel__region *region_publish(int class, size_t slots, uintptr_t base) {
    uint32_t n = stel__load_relaxed(&table_count);
    stel__stack *stacks = stel__alloc_lasting(slots * sizeof *stacks);
    if (!stacks) return NULL;
    table[n] = (stel__region){ .base = base,
                               .slot_bytes = stel__stack_class_bytes(class),
                               .slots = (uint32_t)slots,
                               .class = class,
                               .stacks = stacks };
    stel__store_release(&table_count, n + 1); /* pairs with stel__stack_region_of */
    return &table[n];
}

/* A region of this many slots or fewer, under table_lock; NULL when there is no room for a single one. */
static stel__region *region_reserve(int class, size_t slots) {
    size_t slot_bytes = stel__stack_class_bytes(class);
    for (; slots > 0 && stel__load_relaxed(&table_count) < STEL__STACK_REGIONS_MAX; slots /= 2) {
        size_t bytes = slots * slot_bytes, alignment = slot_bytes;
        if (bytes % STEL__HUGE_PAGE == 0 && alignment < STEL__HUGE_PAGE) alignment = STEL__HUGE_PAGE;
        uintptr_t base;
        if (map_aligned(bytes, alignment, &base) < 0) continue;
        /* Advice and name are niceties: a kernel without them is fine. The same for all, so that mappings merge. */
        (void)stel__sys_madvise((void *)base, bytes, MADV_NOHUGEPAGE);
        (void)stel__sys_prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, base, bytes, (unsigned long)"stellane stacks");
        stel__region *r = region_publish(class, slots, base);
        if (!r) {
            (void)stel__sys_munmap((void *)base, bytes);
            return NULL;
        }
        lowest_base = base;
        stel__add_relaxed(&bytes_reserved, bytes);
        return r;
    }
    return NULL;
}

/* Under the class's lock: a region with slots to hand out. */
static stel__region *region_with_slots(stack_class *k, int class) {
    if (k->region && k->region->handed < k->region->slots) return k->region;
    size_t most = REGION_BYTES_MAX / stel__stack_class_bytes(class);
    if (k->next_slots == 0) k->next_slots = FIRST_SLOTS;
    if (k->next_slots > most) k->next_slots = most;
    stel__lock_take(&table_lock);
    stel__region *r = region_reserve(class, k->next_slots);
    stel__lock_give(&table_lock);
    if (!r) return NULL;
    k->next_slots = r->slots < k->next_slots ? r->slots : (size_t)r->slots * 2;
    k->region = r;
    return r;
}

const stel__region *stel__stack_region_of(uintptr_t address, uint32_t *slot) {
    uint32_t n = stel__load_acquire(&table_count); /* pairs with region_publish */
    for (uint32_t i = 0; i < n; i++) {
        const stel__region *r = &table[i];
        if (address >= r->base && (address - r->base) / r->slot_bytes < r->slots) {
            *slot = (uint32_t)((address - r->base) / r->slot_bytes);
            return r;
        }
    }
    return NULL;
}

const stel__stack *stel__stack_of_guard(const void *address) {
    uint32_t slot;
    const stel__region *r = stel__stack_region_of((uintptr_t)address, &slot);
    if (!r) return NULL;
    const stel__stack *s = &r->stacks[slot];
    uintptr_t offset = ((uintptr_t)address - r->base) % r->slot_bytes;
    bool guarded = s->top_and_class != 0 && !(s->top_and_class & STEL__STACK_UNGUARDED);
    return guarded && offset < stel__stack_guard_bytes() ? s : NULL;
}

/* ---- lists ---- */

static void chain_push(chain *c, stel__stack *s) {
    s->next = c->head;
    c->head = s;
    c->count++;
}

static stel__stack *chain_pop(chain *c) {
    stel__stack *s = c->head;
    if (!s) return NULL;
    c->head = s->next;
    c->count--;
    return s;
}

static void cache_push(stel__stack_cache *c, int class, stel__stack *s) {
    s->next = c->head[class];
    c->head[class] = s;
    stel__count(&c->count[class], 1u);
}

/* How many a cache may hold: fewer of the large ones, down to none. */
static uint32_t cache_limit(const stel__stack_cache *c, int class) {
    uint32_t limit = stel__load_relaxed(&c->limit); /* a setting: changed at any time, sooner or later obeyed */
    return class <= LARGE_CLASS ? limit : limit >> (class - LARGE_CLASS);
}

static void cache_make_known(stel__stack_cache *c) {
    stel__lock_take(&caches_lock);
    stel__list_push_tail(&caches, &c->link);
    c->known = true;
    stel__lock_give(&caches_lock);
}

/* ---- getting ---- */

static bool starved_flag(void) {
    return STEL__UNLIKELY(stel__load_relaxed(&stel__stack_watch) & WATCH_STARVED);
}

/* Who sees it late keeps a few stacks until it is made to share: no partner. */
static bool wanted_elsewhere(void) {
    return STEL__UNLIKELY(stel__load_relaxed(&stel__stack_watch) >= WATCH_WANTED);
}

void stel__stack_wanted(bool wanted) {
    stel__add_relaxed(&stel__stack_watch, wanted ? (unsigned)WATCH_WANTED : -(unsigned)WATCH_WANTED);
}

static void starved_no_more(void) {
    if (starved_flag()) stel__and_acq_rel(&stel__stack_watch, ~(unsigned)WATCH_STARVED);
}

/* Make slots first ... first + n - 1 ready; they are claimed, so no lock is needed. The ranges to be guarded are listed
 * where the descriptors will be: a kilobyte on the stack would be a second page of the fiber's that happens to run. */
static void make_ready(stel__region *r, uint32_t first, uint32_t n) {
    size_t guard = stel__stack_guard_bytes();
    uintptr_t base = r->base + first * r->slot_bytes;
    uint64_t without = stel__guard_make(base, r->slot_bytes, n, guard, (struct iovec *)(void *)&r->stacks[first]);
    for (uint32_t i = 0; i < n; i++) {
        uintptr_t slot = base + i * r->slot_bytes;
        uintptr_t colour = (uintptr_t)((first + i) * COLOUR_STEP % COLOURS) * 64;
        uintptr_t word = (slot + r->slot_bytes - colour) | (uintptr_t)r->class;
        if (without >> i & 1) word |= STEL__STACK_UNGUARDED;
        r->stacks[first + i] = (stel__stack){ .top_and_class = word };
        stel__sanitize_register_stack((void *)(slot + guard), r->slot_bytes - guard);
    }
    if (without) {
        stel__add_relaxed(&unguarded_count, (uint64_t)__builtin_popcountll(without));
        stel__or_acq_rel(&stel__stack_watch, WATCH_UNGUARDED);
    }
}

/* A batch of fresh slots: one is returned, some go to the cache, the rest to the clean list. */
static stel__stack *get_fresh(stel__stack_cache *c, int class, uint32_t wanted) {
    stack_class *k = &classes[class];
    stel__lock_take(&k->lock);
    stel__region *r = region_with_slots(k, class);
    if (!r) {
        stel__lock_give(&k->lock);
        stel__store_relaxed(&starved_class, class);
        stel__or_acq_rel(&stel__stack_watch, WATCH_STARVED);
        return NULL;
    }
    uint32_t first = r->handed, n = r->slots - first;
    uint32_t batch = FIRST_BATCH;
    while (batch < STEL__STACK_BATCH && batch < k->ready && class <= LARGE_CLASS)
        batch *= 2;
    if (n > batch) n = batch;
    r->handed += n;
    stel__lock_give(&k->lock);

    make_ready(r, first, n);

    uint32_t kept = wanted < n ? wanted : n;
    for (uint32_t i = kept; i-- > 1;)
        cache_push(c, class, &r->stacks[first + i]);
    stel__lock_take(&k->lock);
    k->ready += n;
    for (uint32_t i = n; i-- > kept;)
        chain_push(&k->clean, &r->stacks[first + i]);
    stel__lock_give(&k->lock);
    return &r->stacks[first];
}

stel__stack *stel__stack_get_slow(stel__stack_cache *c, int class) {
    STEL__ASSERT(class >= 0 && class < STEL__STACK_CLASSES_USED);
    if (STEL__UNLIKELY(!c->known)) cache_make_known(c);
    uint32_t wanted = cache_limit(c, class) / 2;
    if (wanted == 0 || wanted_elsewhere()) wanted = 1;
    if (wanted > STEL__STACK_BATCH) wanted = STEL__STACK_BATCH;
    stack_class *k = &classes[class];
    stel__stack *mine = NULL;
    stel__lock_take(&k->lock);
    for (uint32_t i = 0; i < wanted; i++) {
        stel__stack *s = chain_pop(&k->recent);
        if (!s) s = chain_pop(&k->old);
        if (!s) s = chain_pop(&k->clean);
        if (!s) break;
        if (mine)
            cache_push(c, class, s);
        else
            mine = s;
    }
    stel__lock_give(&k->lock);
    if (!mine) mine = get_fresh(c, class, wanted);
    if (mine) starved_no_more();
    return mine;
}

/* Room may have come from elsewhere (a limit raised, a mapping of somebody else's gone) while no stack is in use whose
 * return would tell: so ask the kernel again. Only who has run out pays for it. */
bool stel__stack_starved(void) {
    if (!starved_flag()) return false;
    int class = stel__load_relaxed(&starved_class);
    stack_class *k = &classes[class];
    stel__lock_take(&k->lock);
    bool room = region_with_slots(k, class) != NULL;
    stel__lock_give(&k->lock);
    if (room) starved_no_more();
    return !room;
}

/* ---- putting back ---- */

/* To the recent list, all of them; whoever starves may look again. */
static void give_back(int class, stel__stack *head) {
    stack_class *k = &classes[class];
    if (!head) return;
    stel__lock_take(&k->lock);
    while (head) {
        stel__stack *next = head->next;
        chain_push(&k->recent, head);
        head = next;
    }
    stel__lock_give(&k->lock);
    starved_no_more();
}

/* The newest half stays: its pages are in the CPU's caches. */
void stel__stack_spill(stel__stack_cache *c, int class) {
    uint32_t limit = cache_limit(c, class), count = stel__load_relaxed(&c->count[class]);
    if (count <= limit) return;
    if (STEL__UNLIKELY(!c->known)) cache_make_known(c);
    uint32_t kept = limit / 2;
    stel__stack **cut = &c->head[class];
    for (uint32_t i = 0; i < kept; i++)
        cut = &(*cut)->next;
    stel__stack *rest = *cut;
    *cut = NULL;
    stel__store_relaxed(&c->count[class], kept);
    give_back(class, rest);
}

void stel__stack_put_watched(stel__stack_cache *c, stel__stack *s) {
    int class = stel__stack_class_of(s);
    if (s->top_and_class & STEL__STACK_UNGUARDED) {
        if (!stel__guard_canary_whole(stel__stack_slot(s), stel__stack_guard_bytes()))
            stel__die("stack overflow: a fiber wrote below its stack of %zu KiB at %p, which has no guard pages",
                      stel__stack_class_bytes(class) / 1024, stel__stack_low(s));
    }
    if (starved_flag() && !wanted_elsewhere()) {
        s->next = NULL;
        give_back(class, s);
        return;
    }
    cache_push(c, class, s);
    if (wanted_elsewhere())
        (void)stel__stack_cache_share(c);
    else
        stel__stack_spill(c, class);
}

uint32_t stel__stack_cache_share(stel__stack_cache *c) {
    uint32_t shared = 0;
    for (int class = 0; class < STEL__STACK_CLASSES_USED; class ++) {
        stel__stack *head = c->head[class];
        if (!head) continue;
        shared += stel__load_relaxed(&c->count[class]);
        c->head[class] = NULL;
        stel__store_relaxed(&c->count[class], 0u);
        give_back(class, head);
    }
    return shared;
}

void stel__stack_cache_flush(stel__stack_cache *c) {
    stel__lock_take(&caches_lock);
    (void)stel__stack_cache_share(c);
    if (c->known) stel__list_remove(&caches, &c->link);
    c->known = false;
    stel__lock_give(&caches_lock);
}

/* ---- the scavenger ---- */

/* Up to a batch off the old list; 0: it is empty, and what was recent is old from now on. */
static size_t take_old(stack_class *k, stel__stack **out, size_t most) {
    size_t n = 0;
    stel__lock_take(&k->lock);
    while (n < most && (out[n] = chain_pop(&k->old)) != NULL)
        n++;
    if (n == 0) {
        k->old = k->recent;
        k->recent = (chain){ 0 };
    }
    stel__lock_give(&k->lock);
    return n;
}

static void clean_batch(stack_class *k, stel__stack **stacks, size_t n) {
    struct iovec ranges[STEL__STACK_BATCH];
    size_t guard = stel__stack_guard_bytes();
    for (size_t i = 0; i < n; i++) {
        uintptr_t slot = stel__stack_slot(stacks[i]);
        size_t bytes = stel__stack_class_bytes(stel__stack_class_of(stacks[i]));
        ranges[i] = (struct iovec){ (void *)(slot + guard), bytes - guard };
    }
    stel__discard_many(ranges, n);
    stel__lock_take(&k->lock);
    for (size_t i = 0; i < n; i++)
        chain_push(&k->clean, stacks[i]);
    stel__lock_give(&k->lock);
}

size_t stel__stack_scavenge(void) {
    static stel__lock scavenging;
    static int class; /* under scavenging: where a round goes on that had to stop: no class is visited twice in one */
    stel__stack *stacks[STEL__STACK_BATCH];
    size_t cleaned = 0;
    if (!stel__lock_try(&scavenging)) return 0; /* another runtime's poller is at it */
    while (class < STEL__STACK_CLASSES_USED && cleaned < STEL__STACK_SCAVENGE_MAX) {
        size_t room = STEL__STACK_SCAVENGE_MAX - cleaned;
        size_t n = take_old(&classes[class], stacks, room < STEL__STACK_BATCH ? room : STEL__STACK_BATCH);
        if (n > 0)
            clean_batch(&classes[class], stacks, n);
        else
            class ++;
        cleaned += n;
    }
    if (class == STEL__STACK_CLASSES_USED) class = 0;
    stel__lock_give(&scavenging);
    return cleaned;
}

/* ---- figures ---- */

void stel__stack_figures_get(stel__stack_figures *out) {
    *out = (stel__stack_figures){ 0 };
    uint64_t idle = 0;
    stel__lock_take(&caches_lock);
    for (stel__link *l = caches.head; l; l = l->next) {
        stel__stack_cache *c = STEL__CONTAINER(l, stel__stack_cache, link);
        for (int class = 0; class < STEL__STACK_CLASSES_USED; class ++)
            idle += stel__load_relaxed(&c->count[class]);
    }
    for (int class = 0; class < STEL__STACK_CLASSES_USED; class ++) {
        stack_class *k = &classes[class];
        stel__lock_take(&k->lock);
        out->reserved += k->ready;
        idle += k->recent.count + k->old.count + k->clean.count;
        stel__lock_give(&k->lock);
    }
    stel__lock_give(&caches_lock);
    /* Workers go on while we count: never report less than none. */
    out->in_use = out->reserved > idle ? out->reserved - idle : 0;
    out->unguarded = stel__load_relaxed(&unguarded_count);
    out->bytes_reserved = stel__load_relaxed(&bytes_reserved);
}
