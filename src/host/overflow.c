/* Stack overflows, told by name. A fiber that runs off its stack hits the guard: SIGSEGV, with no stack left to handle
 * it on, so each worker has a signal stack. The handler knows a guard by arithmetic (stel__stack_of_guard: no lock),
 * writes what it knows, lets the scheduler's describe add the fiber, and ends the process by SIGSEGV's default action,
 * so that the core shows the fiber as it was. Any other fault belongs to whoever had a handler before us, or to the
 * default.
 *
 * Everything in the handler is async-signal-safe: numbers are written by hand, the only call is write. It may run at
 * any point on a worker, and on threads that are none of ours. */
#include "host/stack.h"
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SIGNAL_STACK_BYTES = 32768 }; /* ours needs 2 KiB; the rest is for a handler that we chain to */
#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

/* A signal stack and, below it, what the thread had before. */
typedef struct signal_stack {
    stack_t previous;
    STEL__ALIGNED(64) char bytes[];
} signal_stack;

static void (*_Atomic describe_fiber)(int fd, const stel__stack *s, const void *address);
static struct sigaction previous_segv, previous_bus; /* fixed before our handler is in place */

/* ---- text by hand ---- */

typedef struct text {
    char bytes[256];
    size_t length;
} text;

static void text_add(text *t, const char *words) {
    while (*words && t->length < sizeof t->bytes)
        t->bytes[t->length++] = *words++;
}

static void text_add_number(text *t, uintptr_t n, unsigned base) {
    char digits[32];
    size_t i = sizeof digits;
    digits[--i] = 0;
    do
        digits[--i] = "0123456789abcdef"[n % base];
    while ((n /= base) != 0);
    if (base == 16) text_add(t, "0x");
    text_add(t, digits + i);
}

static void report(const stel__stack *s, const void *address) {
    text t = { .length = 0 };
    uintptr_t slot = stel__stack_slot(s), guard = stel__stack_guard_bytes();
    uintptr_t top = slot + stel__stack_class_bytes(stel__stack_class_of(s));
    text_add(&t, "stellane: stack overflow: access to ");
    text_add_number(&t, (uintptr_t)address, 16);
    text_add(&t, ", in the guard of a stack of ");
    text_add_number(&t, (top - slot - guard) / 1024, 10);
    text_add(&t, " KiB (");
    text_add_number(&t, slot + guard, 16);
    text_add(&t, "-");
    text_add_number(&t, top, 16);
    text_add(&t, ")\n");
    (void)stel__sys_write(STDERR_FILENO, t.bytes, t.length);
    void (*describe)(int, const stel__stack *, const void *) = stel__load_acquire(&describe_fiber);
    if (describe) describe(STDERR_FILENO, s, address);
}

/* ---- the handler ---- */

/* The default action takes place when the instruction is run again, or, for a signal that somebody sent, when it is
 * sent again. */
static void default_action(int number, const siginfo_t *info) {
    struct sigaction standard;
    memset(&standard, 0, sizeof standard);
    standard.sa_handler = SIG_DFL;
    sigaction(number, &standard, NULL);
    if (info->si_code <= 0) raise(number); /* blocked until we return */
}

static void chain(int number, siginfo_t *info, void *context) {
    const struct sigaction *previous = number == SIGBUS ? &previous_bus : &previous_segv;
    if (!(previous->sa_flags & SA_SIGINFO)) {
        if (previous->sa_handler == SIG_DFL || (previous->sa_handler == SIG_IGN && info->si_code > 0)) {
            default_action(number, info);
            return;
        }
        if (previous->sa_handler == SIG_IGN) return;
    }
    sigset_t mask;
    pthread_sigmask(SIG_BLOCK, &previous->sa_mask, &mask);
    if (previous->sa_flags & SA_SIGINFO)
        previous->sa_sigaction(number, info, context);
    else
        previous->sa_handler(number);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
}

static void on_fault(int number, siginfo_t *info, void *context) {
    int saved = errno;
    const stel__stack *s = info->si_code > 0 ? stel__stack_of_guard(info->si_addr) : NULL;
    if (s) {
        report(s, info->si_addr);
        default_action(number, info);
    } else {
        chain(number, info, context);
    }
    errno = saved;
}

static void install(void) {
    struct sigaction ours;
    memset(&ours, 0, sizeof ours);
    ours.sa_sigaction = on_fault;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&ours.sa_mask);
    /* Known before it can be needed: asked for first, set after. */
    sigaction(SIGSEGV, NULL, &previous_segv);
    sigaction(SIGBUS, NULL, &previous_bus);
    sigaction(SIGSEGV, &ours, NULL);
    sigaction(SIGBUS, &ours, NULL);
}

void stel__overflow_install(void (*describe)(int fd, const stel__stack *s, const void *address)) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    stel__store_release(&describe_fiber, describe); /* pairs with report */
    pthread_once(&once, install);
}

/* ---- signal stacks ---- */

static size_t signal_stack_bytes(void) {
    return SIGNAL_STACK_BYTES + (size_t)getauxval(AT_MINSIGSTKSZ);
}

/* Mapped, not allocated: most of its pages are never touched. */
int stel__overflow_enter_thread(void **memory) {
    void *mapped;
    size_t bytes = signal_stack_bytes();
    int rc = stel__sys_mmap(&mapped, NULL, sizeof(signal_stack) + bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (rc < 0) return rc;
    signal_stack *own = mapped;
    stack_t ours = { .ss_sp = own->bytes, .ss_size = bytes };
    if (sigaltstack(&ours, &own->previous) < 0) {
        int error = errno;
        (void)stel__sys_munmap(own, sizeof *own + bytes);
        return -error;
    }
    *memory = own;
    return 0;
}

void stel__overflow_leave_thread(void *memory) {
    signal_stack *own = memory;
    if (!own) return;
    /* Sanitizers give each thread a signal stack, and want to find it again. */
    sigaltstack(&own->previous, NULL);
    (void)stel__sys_munmap(own, sizeof *own + signal_stack_bytes());
}
