/* stel_set_allocator: every piece of the library's memory comes from the program's allocator and goes back to it, and the
 * choice is open only until the first piece. Each test is a process of its own. */
#include "check_fiber.h"
#include "host/host.h"
#include <errno.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* An arena that never gives anything back to libc, and knows what is its own: a magic number before each piece. */
static _Alignas(4096) char arena[64 << 20];
static atomic_size_t used;
static atomic_long pieces, calls;
static atomic_bool empty;
static int mark; /* its address is the context */

typedef struct piece {
    uint64_t magic;
    size_t bytes;
} piece;

static void *from_arena(void *context, size_t alignment, size_t bytes) {
    FIBER_ASSERT(context == &mark);
    FIBER_ASSERT(alignment && !(alignment & (alignment - 1)));
    atomic_fetch_add(&calls, 1);
    if (atomic_load(&empty)) return NULL;
    if (alignment < _Alignof(piece)) alignment = _Alignof(piece);
    size_t room = bytes + alignment + sizeof(piece), at = atomic_fetch_add(&used, room);
    if (at + room > sizeof arena) return NULL;
    uintptr_t start = ((uintptr_t)arena + at + sizeof(piece) + alignment - 1) & ~(uintptr_t)(alignment - 1);
    ((piece *)start)[-1] = (piece){ 0x5ca1ab1e, bytes };
    memset((void *)start, 0xa5, bytes); /* whoever wants zeros makes them */
    atomic_fetch_add(&pieces, 1);
    return (void *)start;
}

static void to_arena(void *context, void *pointer) {
    FIBER_ASSERT(context == &mark);
    piece *p = (piece *)pointer - 1;
    FIBER_ASSERT((char *)p >= arena && (char *)p < arena + sizeof arena);
    FIBER_ASSERT_EQ(p->magic, 0x5ca1ab1e); /* ours, and not given back twice */
    p->magic = 0;
    memset(pointer, 0xdd, p->bytes);
    atomic_fetch_sub(&pieces, 1);
}

static const stel_allocator own = { sizeof own, &mark, from_arena, to_arena };

static int child(void *arg) {
    stel_chan *c = arg;
    int value = 1;
    FIBER_OK(stel_set_name("a name that lives in memory"));
    return stel_chan_send(c, &value);
}
static int nothing(void *arg) {
    return arg != NULL;
}
static int many_things(void *arg) {
    stel_chan *c = NULL;
    stel_fiber f[100];
    int pair[2], value, sum = 0;
    char byte = 1;
    struct addrinfo *found = NULL;
    (void)arg;
    FIBER_OK(stel_chan_create(&c, sizeof(int), 4));
    for (int i = 0; i < 100; i++)
        FIBER_OK(stel_spawn(&f[i], child, c));
    for (int i = 0; i < 100; i++) {
        FIBER_OK(stel_chan_recv(c, &value));
        sum += value;
    }
    for (int i = 0; i < 100; i++)
        FIBER_OK(stel_join(f[i], NULL));
    stel_chan_destroy(c);
    FIBER_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    FIBER_ASSERT_EQ(stel_write(pair[0], &byte, 1), 1);
    FIBER_ASSERT_EQ(stel_read(pair[1], &byte, 1), 1);
    FIBER_OK(stel_close(pair[0]));
    FIBER_OK(stel_close(pair[1]));
    FIBER_OK(stel_offload(&value, nothing, NULL));
    FIBER_OK(stel_getaddrinfo("127.0.0.1", "80", NULL, &found));
    freeaddrinfo(found); /* libc's own, and given back to it */
    return sum;
}

START_TEST(everything_comes_from_it) {
    ck_assert_int_eq(stel_set_allocator(&own), 0);
    ck_assert_int_eq(run_in_runtime(2, many_things, NULL), 100);
    long first = atomic_load(&pieces);
    ck_assert_int_gt(first, 0);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(run_in_runtime(2, many_things, NULL), 100);
    ck_assert_int_le(atomic_load(&pieces), first + 8); /* tables that grow once; threads of the pool that came later */
    ck_assert_int_gt(atomic_load(&calls), atomic_load(&pieces));
}
END_TEST

START_TEST(zeroed_and_aligned) {
    ck_assert_int_eq(stel_set_allocator(&own), 0);
    for (size_t alignment = 1; alignment <= 4096; alignment *= 2) {
        char *p = stel__alloc_aligned(alignment, 100), *q = stel__alloc(100);
        ck_assert_uint_eq((uintptr_t)p % alignment, 0);
        ck_assert_uint_eq((uintptr_t)q % _Alignof(max_align_t), 0);
        for (int i = 0; i < 100; i++)
            ck_assert(!p[i] && !q[i]);
        stel__free(p);
        stel__free(q);
    }
    stel__free(NULL);
    ck_assert_int_eq(atomic_load(&pieces), 0);
    atomic_store(&empty, true);
    ck_assert_ptr_null(stel__alloc(8));
    ck_assert_ptr_null(stel__alloc_aligned(64, 8));
    stel_runtime *rt = NULL;
    ck_assert_int_eq(stel_runtime_create(&rt, NULL), -ENOMEM);
}
END_TEST

START_TEST(only_before_the_first) {
    ck_assert_int_eq(stel_set_allocator(&own), 0);
    ck_assert_int_eq(stel_set_allocator(NULL), 0); /* libc's after all */
    stel_chan *c = NULL;
    ck_assert_int_eq(stel_chan_create(&c, 1, 1), 0);
    ck_assert_int_eq(atomic_load(&calls), 0);
    ck_assert_int_eq(stel_set_allocator(&own), -EBUSY);
    ck_assert_int_eq(stel_set_allocator(NULL), -EBUSY);
    stel_chan_destroy(c);
    ck_assert_int_eq(stel_set_allocator(&own), -EBUSY); /* none is in use, but some was */
}
END_TEST

START_TEST(codes) {
    stel_allocator a = own;
    a.size = 0;
    ck_assert_int_eq(stel_set_allocator(&a), -EINVAL);
    a = own;
    a.alloc = NULL;
    ck_assert_int_eq(stel_set_allocator(&a), -EINVAL);
    a = own;
    a.release = NULL;
    ck_assert_int_eq(stel_set_allocator(&a), -EINVAL);
    ck_assert_int_eq(stel_set_allocator(&own), 0);
}
END_TEST

TEST_MAIN("host/allocator", everything_comes_from_it, zeroed_and_aligned, only_before_the_first, codes)
