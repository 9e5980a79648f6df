/* The context switch, on the stacks that fibers use and with the annotations that the scheduler makes. ctest:
 * timeout=180
 *
 * A flow is a context with its stack. go(to, word) leaves the current flow for another one: the one place here that
 * switches, as there is one in the scheduler. */
#include "arch/arch.h"
#include "check_fiber.h"
#include "host/host.h"
#include "registers.h"
#include <fenv.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <unwind.h>

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

static stel__context_exit flow_entry(void *word) {
    flow *self = current;
    stel__sanitize_after_switch(&self->sanitizer, NULL);
    self->body(self, word);
    self->ended = true;
#ifndef STEL__SANITIZED /* which want a switch */
    static bool ends_by_switch;
    ends_by_switch = !ends_by_switch;
    if (!ends_by_switch) {
        current = &home;
        return (stel__context_exit){ &home.context, NULL };
    }
#endif
    go_from(self, &home, NULL, true);
    FIBER_FAIL("a flow that has ended goes on");
    return (stel__context_exit){ &home.context, NULL };
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
    /* On every machine here frames begin at a multiple of 16, and their pointers are two words from there, or none. */
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

/* The stack pointer itself, before any prologue could have put it right. */
static stel__context entered_from, entered_context;
static uintptr_t entered_at;

void entered(void *word, uintptr_t stack_pointer) {
    entered_at = stack_pointer;
    stel__context_switch(&entered_context, &entered_from, word);
    __builtin_unreachable();
}

STEL__NOINLINE static void *enter(void) {
    return stel__context_switch(&entered_from, &entered_context, &entered_at);
}

START_TEST(stack_pointer_at_the_entry) {
#ifndef STEL__SANITIZED /* which would have to be told of these switches, too */
    stel__stack *stack = stel__stack_get(&cache, stel__stack_class(16384));
    ck_assert_ptr_nonnull(stack);
    for (size_t offset = 0; offset < 64; offset++) {
        char *top = (char *)stel__stack_top(stack) - offset;
        stel__context_make(&entered_context, top, entry_with_stack_pointer);
        ck_assert_ptr_eq(enter(), &entered_at);
        ck_assert_uint_eq(entered_at % 16, STACK_POINTER_AT_ENTRY);
        ck_assert_uint_lt(entered_at, (uintptr_t)top);
        ck_assert_uint_gt(entered_at, (uintptr_t)top - 1024);
    }
    stel__stack_put(&cache, stack);
#endif
}
END_TEST

/* ---- registers ---- */

static void go_home(void *word) {
    go(&home, word);
}

static void body_registers(flow *self, void *word) {
    (void)word;
    for (uint64_t round = 0; round < 100; round++) {
        uint64_t in[SAVED], out[SAVED];
        for (uint64_t i = 0; i < SAVED; i++)
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

/* A frame of variable size: the compiler finds everything in it through the frame pointer, which is the one register
 * that the switch itself exchanges. */
STEL__NOINLINE static uint64_t home_from_variable_frame(flow *self, size_t bytes) {
    volatile unsigned char room[bytes];
    uint64_t sum = 0;
    for (size_t i = 0; i < bytes; i++)
        room[i] = (unsigned char)(i ^ self->number);
    current = &home;
    stel__sanitize_before_switch(&self->sanitizer, &home.sanitizer, false);
    stel__context_switch(&self->context, &home.context, NULL);
    stel__sanitize_after_switch(&self->sanitizer, NULL);
    for (size_t i = 0; i < bytes; i++)
        sum += room[i] == (unsigned char)(i ^ self->number);
    return sum;
}

static void body_variable_frames(flow *self, void *word) {
    (void)word;
    for (size_t bytes = 1; bytes < 300; bytes += 23)
        FIBER_ASSERT_EQ(home_from_variable_frame(self, bytes), bytes);
}

START_TEST(frame_pointer_survives) {
    enum { FLOWS = 3 };
    flow f[FLOWS];
    for (int i = 0; i < FLOWS; i++) {
        flow_make(&f[i], 65536, body_variable_frames);
        f[i].number = (uint64_t)i + 1;
    }
    while (!f[0].ended)
        for (int i = 0; i < FLOWS; i++)
            go(&f[i], NULL);
    for (int i = 0; i < FLOWS; i++)
        flow_free(&f[i]);
}
END_TEST

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

/* ---- landing pads, where they can be enforced on a program whose start files have none: not before it runs ---- */

#if defined(__aarch64__)
enum { HAVE_PADS = 1 << 17, PROTECT_PADS = 0x10 }; /* HWCAP2_BTI, PROT_BTI */
extern const char __executable_start[], etext[];

static int in_child_with_pads(void (*fn)(void)) {
    int status = 0;
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), low = (uintptr_t)__executable_start & ~(page - 1);
        FIBER_ASSERT_EQ(mprotect((void *)low, (uintptr_t)etext - low, PROT_READ | PROT_EXEC | PROTECT_PADS), 0);
        fn();
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return status;
}

static void switch_with_pads(void) {
    flow f;
    flow_make(&f, 65536, body_words);
    void *word = go(&f, (void *)1);
    while (!f.ended)
        word = go(&f, (char *)word + 1);
}

static void jump_without_pad(void) {
    __asm__ volatile("adr x9, 1f\n\tbr x9\n1:\tnop" ::: "x9");
}

START_TEST(landing_pads) {
    if (!(getauxval(AT_HWCAP2) & HAVE_PADS)) {
        puts("landing_pads: left out: this machine does not enforce them");
        return;
    }
    int status = in_child_with_pads(jump_without_pad);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGILL, "status 0x%x", (unsigned)status);
    ck_assert_int_eq(in_child_with_pads(switch_with_pads), 0);
}
END_TEST
#else
START_TEST(landing_pads) {}
END_TEST
#endif

/* ---- from thread to thread ---- */

/* What a thread-local is belongs to the thread that runs the flow now; whoever reads it through a function that is not
 * inlined, as the scheduler does, sees that. */
static __thread int thread_number;

STEL__NOINLINE static int thread_number_now(void) {
    __asm__ volatile("");
    return thread_number;
}

STEL__NOINLINE static void set_errno(int n) { /* for errno the same holds */
    errno = n;
}

typedef struct turn {
    flow *migrant, *home;
    int number;
} turn;

static void body_migrates(flow *self, void *word) {
    for (int n = 1;; n++) {
        const turn *t = word;
        FIBER_ASSERT_EQ(thread_number_now(), t->number);
        FIBER_ASSERT_EQ(t->number, n % 8);
        set_errno(n);
        self->number = (uint64_t)n;
        if (n == 8) return;
        word = go(t->home, NULL);
    }
}

static void *take_turn(void *arg) {
    turn *t = arg;
    flow own;
    memset(&own, 0, sizeof own);
    t->home = &own;
    thread_number = t->number;
    stel__sanitize_thread_self(&own.sanitizer);
    go_from(&own, t->migrant, t, false);
    FIBER_ASSERT_EQ(thread_number, t->number);
    FIBER_ASSERT_EQ(errno, t->number);
    return NULL;
}

START_TEST(thread_locals_after_migration) {
    flow f;
    flow_make(&f, 65536, body_migrates);
    turn t = { &f, NULL, 1 };
    for (; t.number < 8; t.number++) {
        pthread_t thread;
        ck_assert_int_eq(pthread_create(&thread, NULL, take_turn, &t), 0);
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
        ck_assert_uint_eq(f.number, (uint64_t)t.number);
    }
    t.number = 0;
    go_from(&home, &f, &t, false);
    ck_assert(f.ended);
    ck_assert_int_eq(errno, 8);
    flow_free(&f);
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
}
END_TEST

/* ---- backtraces: fcontext's end where Boost lets them ---- */

#if !defined(STELLANE_CONTEXT_FCONTEXT)
static uintptr_t frames[64];
static int frame_count;

static _Unwind_Reason_Code note_frame(struct _Unwind_Context *c, void *unused) {
    (void)unused;
    uintptr_t ip = (uintptr_t)_Unwind_GetIP(c);
    FIBER_ASSERT(frame_count < 64);
    if (ip) frames[frame_count++] = ip; /* the end is told as a frame without an address */
    return _URC_NO_REASON;
}

STEL__NOINLINE static void look_back(void) {
    frame_count = 0;
    FIBER_ASSERT_EQ(_Unwind_Backtrace(note_frame, NULL), _URC_END_OF_STACK);
    /* Frame pointers, which perf follows, end as well, at a null one, and never leave the stack. */
    uintptr_t low = (uintptr_t)stel__stack_low(current->stack), top = (uintptr_t)stel__stack_top(current->stack);
    int n = 0;
    for (void **frame = __builtin_frame_address(0); frame; frame = frame_of_caller(frame))
        FIBER_ASSERT((uintptr_t)frame > low && (uintptr_t)frame <= top && ++n < 32);
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
    uintptr_t start = (uintptr_t)stel__context_start, last = frames[frame_count - 1];
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
    if (test_emulated()) {
        puts("gdb_sees_where_it_ends: left out: gdb would look at the emulator");
        return;
    }
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

TEST_MAIN_IF(stop_if_asked, "arch/context", words_travel, entry_is_aligned, stack_pointer_at_the_entry,
             callee_saved_registers_survive, frame_pointer_survives, deep_chains_in_random_order, from_flow_to_flow,
             landing_pads, thread_locals_after_migration, floating_point_words, unwinding_ends_at_the_entry,
             gdb_sees_where_it_ends)
