/* The context switch, on the stacks that fibers use and with the annotations that the scheduler makes. ctest:
 * timeout=180
 *
 * A flow is a context with its stack. go(to, word) leaves the current flow for another one: the one place here that
 * switches, as there is one in the scheduler. */
#include "arch/arch.h"
#include "check_fiber.h"
#include "host/host.h"
#include <execinfo.h>
#include <fenv.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct flow {
    stel__context context;
    stel__sanitizer_fiber sanitizer;
    stel__stack *stack;
    void (*body)(struct flow *self, void *word);
    uint64_t number;
    bool ended;
} flow;

static stel__stack_cache cache = { .limit = 64 };
static flow home; /* the thread's own context */
static flow *current = &home;

STEL__NOINLINE static void *go_from(flow *from, flow *to, void *word, bool ends) {
    (void)ends;
    current = to;
    stel__sanitize_before_switch(&from->sanitizer, &to->sanitizer, ends);
    word = stel__context_switch(&from->context, &to->context, word);
    stel__sanitize_after_switch(&from->sanitizer, NULL);
    return word;
}

static void *go(flow *to, void *word) {
    return go_from(current, to, word, false);
}

static void flow_entry(void *word) {
    flow *self = current;
    stel__sanitize_after_switch(&self->sanitizer, NULL);
    self->body(self, word);
    self->ended = true;
    go_from(self, &home, NULL, true);
    FIBER_FAIL("a flow that has ended goes on");
}

static void flow_make(flow *f, size_t bytes, void (*body)(flow *, void *)) {
    if (current == &home) stel__sanitize_thread_self(&home.sanitizer);
    memset(f, 0, sizeof *f);
    f->stack = stel__stack_get(&cache, stel__stack_class(bytes));
    FIBER_ASSERT(f->stack);
    f->body = body;
    char *low = stel__stack_low(f->stack), *top = stel__stack_top(f->stack);
    (void)low, (void)top;
    stel__sanitize_fiber_new(&f->sanitizer, low, (size_t)(top - low));
    stel__context_make(&f->context, top, flow_entry);
}

static void flow_free(flow *f) {
    FIBER_ASSERT(f->ended);
    stel__sanitize_fiber_free(&f->sanitizer);
    stel__stack_put(&cache, f->stack);
}

/* ---- words, alignment ---- */

static void body_words(flow *self, void *word) {
    FIBER_ASSERT_EQ((uintptr_t)word, 1);
    for (uintptr_t i = 2; i < 1000; i += 2)
        FIBER_ASSERT_EQ((uintptr_t)go(&home, (void *)i), i + 1);
    self->number = 77;
}

START_TEST(words_travel) {
    flow f;
    flow_make(&f, 65536, body_words);
    void *word = go(&f, (void *)1);
    for (uintptr_t i = 2; i < 1000; i += 2) {
        ck_assert_uint_eq((uintptr_t)word, i);
        word = go(&f, (void *)(i + 1));
    }
    ck_assert(f.ended);
    ck_assert_uint_eq(f.number, 77);
    flow_free(&f);
}
END_TEST

static void body_alignment(flow *self, void *word) {
    (void)word;
    /* The frame address is that of the saved frame pointer: two words below the caller's aligned stack pointer. */
    FIBER_ASSERT_EQ((uintptr_t)__builtin_frame_address(0) % 16, 0);
    char text[64];
    snprintf(text, sizeof text, "%.3f %Lf", 1.5, 2.25L); /* libc's own aligned stores */
    FIBER_ASSERT(strcmp(text, "1.500 2.250000") == 0);
    self->number = 1;
}

START_TEST(entry_is_aligned) {
    /* Any top will do, aligned or not. */
    for (uintptr_t offset = 0; offset < 64; offset++) {
        flow f;
        flow_make(&f, 65536, body_alignment);
        stel__context_make(&f.context, (char *)stel__stack_top(f.stack) - offset, flow_entry);
        go(&f, NULL);
        ck_assert_uint_eq(f.number, 1);
        flow_free(&f);
    }
}
END_TEST

/* ---- registers ---- */

#if defined(__x86_64__)
/* Fills every callee-saved register from in[0..5], calls fn(arg), and stores what they are then to out[0..5]. */
void fill_call_store(const uint64_t *in, uint64_t *out, void (*fn)(void *), void *arg);
__asm__(".text\n"
        ".type fill_call_store, @function\n"
        "fill_call_store:\n"
        "    endbr64\n"
        "    pushq %rbx\n    pushq %rbp\n    pushq %r12\n    pushq %r13\n    pushq %r14\n    pushq %r15\n"
        "    pushq %rsi\n"
        "    movq 0(%rdi), %rbx\n    movq 8(%rdi), %rbp\n    movq 16(%rdi), %r12\n"
        "    movq 24(%rdi), %r13\n    movq 32(%rdi), %r14\n    movq 40(%rdi), %r15\n"
        "    movq %rcx, %rdi\n"
        "    callq *%rdx\n"
        "    popq %rsi\n"
        "    movq %rbx, 0(%rsi)\n    movq %rbp, 8(%rsi)\n    movq %r12, 16(%rsi)\n"
        "    movq %r13, 24(%rsi)\n    movq %r14, 32(%rsi)\n    movq %r15, 40(%rsi)\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbp\n    popq %rbx\n"
        "    ret\n"
        ".size fill_call_store, . - fill_call_store\n");

static void go_home(void *word) {
    go(&home, word);
}

static void body_registers(flow *self, void *word) {
    (void)word;
    for (uint64_t round = 0; round < 100; round++) {
        uint64_t in[6], out[6];
        for (uint64_t i = 0; i < 6; i++)
            in[i] = (self->number << 32 | round << 8 | i) * UINT64_C(0x9E3779B97F4A7C15);
        fill_call_store(in, out, go_home, NULL);
        FIBER_ASSERT(memcmp(in, out, sizeof in) == 0);
    }
}

START_TEST(callee_saved_registers_survive) {
    enum { FLOWS = 5 };
    flow f[FLOWS];
    for (int i = 0; i < FLOWS; i++) {
        flow_make(&f[i], 65536, body_registers);
        f[i].number = (uint64_t)i + 1;
    }
    for (int round = 0; round <= 100; round++)
        for (int i = 0; i < FLOWS; i++)
            go(&f[i], NULL);
    for (int i = 0; i < FLOWS; i++)
        flow_free(&f[i]);
}
END_TEST
#else
START_TEST(callee_saved_registers_survive) {}
END_TEST
#endif

/* ---- deep chains, with values of every kind alive across the switch ---- */

typedef float vector __attribute__((vector_size(16)));

STEL__NOINLINE static double descend(flow *self, uint64_t state, int depth) {
    volatile char padding[40];
    double real = (double)(state & 0xffff), half = real / 2;
    long double wide = (long double)real + 0.25L;
    vector four = { (float)depth, (float)depth + 1, (float)depth + 2, (float)depth + 3 };
    uint64_t a = state * 3, b = state ^ 0x5555, c = state >> 7, d = state + self->number, e = state | 1, g = ~state;
    padding[depth % 40] = (char)depth;
    go(&home, NULL);
    double below = depth > 0 ? descend(self, state * UINT64_C(6364136223846793005) + 1, depth - 1) : 0;
    go(&home, NULL);
    FIBER_ASSERT(half * 2 == real && wide - 0.25L == (long double)real);
    FIBER_ASSERT(four[0] == (float)depth && four[3] == (float)depth + 3);
    FIBER_ASSERT(a == state * 3 && b == (state ^ 0x5555) && c == state >> 7 && d == state + self->number);
    FIBER_ASSERT(e == (state | 1) && g == ~state && padding[depth % 40] == (char)depth);
    return below + half;
}

static void body_deep(flow *self, void *word) {
    (void)word;
    double sum = descend(self, self->number, 60), want = 0;
    uint64_t state = self->number;
    for (int i = 0; i <= 60; i++) {
        want += (double)(state & 0xffff) / 2;
        state = state * UINT64_C(6364136223846793005) + 1;
    }
    FIBER_ASSERT(sum == want);
}

START_TEST(deep_chains_in_random_order) {
    enum { FLOWS = 40 };
    static flow f[FLOWS];
    uint64_t random = test_seed();
    int left = FLOWS;
    for (int i = 0; i < FLOWS; i++) {
        flow_make(&f[i], 250000, body_deep);
        f[i].number = (uint64_t)i * 1000003 + 17;
    }
    while (left > 0) {
        flow *next = &f[test_random(&random, FLOWS)];
        if (next->ended) continue;
        go(next, NULL);
        left -= next->ended;
    }
    for (int i = 0; i < FLOWS; i++)
        flow_free(&f[i]);
}
END_TEST

/* From flow to flow in a ring, without the home context in between. */
enum { RING = 7 };
static flow ring[RING];

static void body_ring(flow *self, void *word) {
    for (uint64_t i = 0; i < 1000; i++) {
        FIBER_ASSERT_EQ((uintptr_t)word % RING, (uintptr_t)(self - ring));
        word = go(&ring[(self - ring + 1) % RING], (void *)((uintptr_t)word + 1));
    }
    self->number = (uintptr_t)word;
}

START_TEST(from_flow_to_flow) {
    for (int i = 0; i < RING; i++)
        flow_make(&ring[i], 16384, body_ring);
    go(&ring[0], NULL);
    /* The first has left for home after its thousand steps; the others wait for their last word. */
    ck_assert(ring[0].ended);
    for (uintptr_t i = 1; i < RING; i++)
        go(&ring[i], (void *)(uintptr_t)(7000 + i));
    for (int i = 0; i < RING; i++)
        flow_free(&ring[i]);
}
END_TEST

/* ---- floating point words ---- */

static void body_rounding(flow *self, void *word) {
    (void)word;
    uint64_t before = stel__fp_save();
    fesetround(FE_UPWARD);
    uint64_t mine = stel__fp_save();
    FIBER_ASSERT(mine != before);
    stel__fp_load(before);
    FIBER_ASSERT_EQ(fegetround(), FE_TONEAREST);
    go(&home, NULL); /* leaves as a fiber with an environment of its own does: the worker's words in force */
    stel__fp_load(mine);
    FIBER_ASSERT_EQ(fegetround(), FE_UPWARD);
    volatile double one = 1, three = 3;
    volatile double up = one / three, near; /* volatile: the division stays between the two loads */
    stel__fp_load(before);
    near = one / three;
    FIBER_ASSERT(up > near);
    self->number = 1;
}

START_TEST(floating_point_words) {
#if defined(__x86_64__)
    if (stel__sanitize_valgrind()) return; /* computes with one rounding only */
    flow f;
    flow_make(&f, 65536, body_rounding);
    go(&f, NULL);
    ck_assert_int_eq(fegetround(), FE_TONEAREST);
    fesetround(FE_DOWNWARD);
    go(&f, NULL);
    fesetround(FE_TONEAREST);
    ck_assert(f.ended);
    flow_free(&f);
#endif
}
END_TEST

/* ---- backtraces: fcontext's end where Boost lets them ---- */

#if !defined(STELLANE_CONTEXT_FCONTEXT)
static void *frames[64];
static int frame_count;

STEL__NOINLINE static void look_back(void) {
    frame_count = backtrace(frames, 64);
    /* Frame pointers, which perf follows, end as well: at a null one. */
    int n = 0;
    for (void **frame = __builtin_frame_address(0); frame; frame = *frame)
        FIBER_ASSERT(++n < 32);
    __asm__ volatile("" ::: "memory");
}

STEL__NOINLINE static void look_back_deeper(int depth) {
    if (depth > 0)
        look_back_deeper(depth - 1);
    else
        look_back();
    __asm__ volatile("" ::: "memory");
}

static void body_backtrace(flow *self, void *word) {
    (void)self, (void)word;
    look_back_deeper(10);
}

START_TEST(unwinding_ends_at_the_entry) {
    flow f;
    flow_make(&f, 250000, body_backtrace);
    go(&f, NULL);
    /* look_back, 11 deeper, the body, flow_entry, and the assembly that called it: and there it ends. Compilers may
     * inline or clone a few of them, sanitizers may add one. */
    ck_assert_int_ge(frame_count, 12);
    ck_assert_int_le(frame_count, 17);
    uintptr_t start = (uintptr_t)stel__context_start, last = (uintptr_t)frames[frame_count - 1];
    ck_assert_uint_gt(last, start);
    ck_assert_uint_lt(last, start + 32);
    flow_free(&f);
}
END_TEST
#else
START_TEST(unwinding_ends_at_the_entry) {}
END_TEST
#endif

STEL__NOINLINE void stop_for_gdb(void);
void stop_for_gdb(void) {
    raise(SIGTRAP);
    __asm__ volatile("" ::: "memory"); /* no tail call: the frame is to be seen */
}

static void body_gdb(flow *self, void *word) {
    (void)self, (void)word;
    stop_for_gdb();
    __asm__ volatile("" ::: "memory");
}

/* What gdb shows of a program that stops inside a flow: this one, started again with a word in its environment. */
START_TEST(gdb_sees_where_it_ends) {
#if !defined(STELLANE_CONTEXT_FCONTEXT) && !defined(STEL__SANITIZED)
    char program[512], command[1024], line[1024];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    ck_assert_int_gt(n, 0);
    program[n] = 0;
    snprintf(command, sizeof command,
             "command -v gdb >/dev/null && timeout 60 gdb -nx -batch -ex run -ex bt --args '%s' "
             " stop-in-flow 2>&1 </dev/null",
             program);
    FILE *gdb = popen(command, "r");
    ck_assert_ptr_nonnull(gdb);
    bool stopped = false, body = false, end = false, after = false, corrupt = false, refused = false;
    int lines = 0;
    while (fgets(line, sizeof line, gdb)) {
        lines++;
        stopped |= strstr(line, "SIGTRAP") != NULL;
        refused |= strstr(line, "ptrace") != NULL || strstr(line, "Operation not permitted") != NULL;
        corrupt |= strstr(line, "corrupt") != NULL || strstr(line, "Cannot access") != NULL;
        if (line[0] != '#') continue;
        if (strncmp(line, "#0", 2) == 0) body = end = false;
        after |= end;
        body |= strstr(line, "body_gdb") != NULL;
        end |= strstr(line, "context_start") != NULL;
    }
    pclose(gdb);
    if (lines == 0 || refused || stel__sanitize_valgrind()) return; /* no gdb here, or it may not look */
    ck_assert(stopped);
    ck_assert(body);
    ck_assert(end);
    ck_assert(!after);
    ck_assert(!corrupt);
#endif
}
END_TEST

static const char *stop_if_asked(void) {
    char text[256] = { 0 };
    FILE *f = fopen("/proc/self/cmdline", "r");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f) fclose(f);
    size_t first = strlen(text) + 1;
    if (first < n && strcmp(text + first, "stop-in-flow") == 0) {
        flow stopped;
        flow_make(&stopped, 65536, body_gdb);
        go(&stopped, NULL);
        _exit(0);
    }
    return NULL;
}

TEST_MAIN_IF(stop_if_asked, "arch/context", words_travel, entry_is_aligned, callee_saved_registers_survive,
             deep_chains_in_random_order, from_flow_to_flow, floating_point_words, unwinding_ends_at_the_entry,
             gdb_sees_where_it_ends)
