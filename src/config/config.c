/* The table of settings, and the checks that it drives.
 *
 * Sizes of stel_config. The struct only grows at its end. A program compiled with an older header passes a smaller
 * size: what lies beyond it is default. One compiled with a newer header passes a larger size: the bytes we do not
 * know must be zero, else the program asks for something that this library cannot do, and is told so (-EINVAL). The
 * same rule as the kernel's for sched_setattr and clone3. */
#include "config/config.h"
#include <stdio.h>
#include <string.h>

#define FIELD(m)    .member = #m, .offset = offsetof(stel_config, m), .width = sizeof(((stel_config *)0)->m)
#define MILLION_16  INT64_C(16777216)
#define GIB         (INT64_C(1) << 30)
#define NO_CONSTANT 0

static const stel__key keys[] = {
    { .key = "runtime.backend",
      .env = "STELLANE_RUNTIME_BACKEND",
      FIELD(backend),
      .type = STEL__KEY_NAME,
      .automatic = true,
      .doc = "who watches the descriptors: auto, epoll or a registered name" },
    { .key = "runtime.worker_threads",
      .env = "STELLANE_RUNTIME_WORKERS",
      .alias = "STELLANE_RUNTIME_WORKER_THREADS",
      FIELD(worker_threads),
      .type = STEL__KEY_INT,
      .automatic = true,
      .min = 1,
      .max = 1024,
      .preset = NO_CONSTANT,
      .hint = "for one worker per CPU write \"auto\"",
      .doc = "threads that run fibers" },
    { .key = "runtime.max_fibers",
      .env = "STELLANE_RUNTIME_MAX_FIBERS",
      FIELD(max_fibers),
      .live = true,
      .type = STEL__KEY_UNSIGNED,
      .automatic = true,
      .zero = true,
      .min = 1,
      .max = MILLION_16,
      .preset = MILLION_16,
      .doc = "spawns beyond it are refused" },
    { .key = "runtime.auto_shutdown",
      .env = "STELLANE_RUNTIME_AUTO_SHUTDOWN",
      FIELD(auto_shutdown),
      .live = true,
      .type = STEL__KEY_SWITCH,
      .automatic = true,
      .min = -1,
      .max = 1,
      .preset = NO_CONSTANT,
      .doc = "stop when no counted fiber is left" },
    { .key = "runtime.stop_timeout",
      .env = "STELLANE_RUNTIME_STOP_TIMEOUT",
      FIELD(stop_timeout_ns),
      .live = true,
      .type = STEL__KEY_DURATION,
      .min = 1,
      .max = INT64_MAX,
      .preset = STEL_SEC(30),
      .doc = "how long a stop waits for cancelled fibers" },
    { .key = "runtime.enable_cpu_affinity",
      .env = "STELLANE_RUNTIME_ENABLE_CPU_AFFINITY",
      FIELD(enable_cpu_affinity),
      .type = STEL__KEY_BOOL,
      .min = 0,
      .max = 1,
      .preset = 0,
      .doc = "bind each worker to a CPU" },
    { .key = "runtime.stack.size",
      .env = "STELLANE_RUNTIME_STACK_SIZE",
      FIELD(stack_bytes),
      .live = true,
      .type = STEL__KEY_SIZE,
      .automatic = true,
      .min = 4096,
      .max = GIB,
      .preset = NO_CONSTANT,
      .doc = "usable bytes of a fiber's stack" },
    { .key = "runtime.stack.guard_pages",
      .env = "STELLANE_RUNTIME_STACK_GUARD_PAGES",
      FIELD(stack_guard_pages),
      .type = STEL__KEY_INT,
      .min = 1,
      .max = 16,
      .preset = 1,
      .doc = "pages below each stack that trap an overflow" },
    { .key = "runtime.stack.cache_per_worker",
      .env = "STELLANE_RUNTIME_STACK_CACHE_PER_WORKER",
      FIELD(stack_cache),
      .live = true,
      .type = STEL__KEY_INT,
      .min = 1,
      .max = 65536,
      .preset = 64,
      .doc = "stacks a worker keeps at hand" },
    { .key = "runtime.poller.mode",
      .env = "STELLANE_RUNTIME_POLLER_MODE",
      FIELD(poller_mode),
      .type = STEL__KEY_CHOICE,
      .automatic = true,
      .min = STEL_POLLER_DEDICATED,
      .max = STEL_POLLER_PER_WORKER,
      .preset = NO_CONSTANT,
      .words = "dedicated inline per_worker ",
      .doc = "who waits for descriptors" },
    { .key = "runtime.poller.spin",
      .env = "STELLANE_RUNTIME_POLLER_SPIN",
      FIELD(poller_spin_ns),
      .live = true,
      .type = STEL__KEY_DURATION,
      .automatic = true,
      .auto_word = "adaptive",
      .min = 1000,
      .max = 1000000,
      .preset = 50000,
      .off = "none",
      .doc = "how long to look for events before sleeping" },
    { .key = "runtime.performance.io_batch_size",
      .env = "STELLANE_RUNTIME_PERFORMANCE_IO_BATCH_SIZE",
      FIELD(io_batch),
      .live = true,
      .type = STEL__KEY_INT,
      .min = 1,
      .max = 4096,
      .preset = 32,
      .doc = "events taken in one poll" },
    { .key = "runtime.performance.io_budget",
      .env = "STELLANE_RUNTIME_PERFORMANCE_IO_BUDGET",
      FIELD(io_budget),
      .live = true,
      .type = STEL__KEY_INT,
      .min = 1,
      .max = 255,
      .preset = 16,
      .doc = "calls that did not have to wait before a fiber makes room for others" },
    { .key = "runtime.max_tasks_per_loop",
      .env = "STELLANE_RUNTIME_MAX_TASKS_PER_LOOP",
      FIELD(max_tasks_per_loop),
      .live = true,
      .type = STEL__KEY_INT,
      .zero = true,
      .min = 1,
      .max = MILLION_16,
      .preset = NO_CONSTANT,
      .hint = "for no bound write 0",
      .doc = "new fibers that one worker keeps to itself" },
    { .key = "runtime.debug.stall",
      .env = "STELLANE_RUNTIME_DEBUG_STALL",
      FIELD(stall_ns),
      .live = true,
      .type = STEL__KEY_DURATION,
      .off = "off",
      .min = 1,
      .max = INT64_MAX,
      .preset = STEL_MS(20),
      .hint = "write \"off\" for no reports",
      .doc = "report a fiber that holds its worker longer" },
    { .key = "runtime.seed",
      .env = "STELLANE_RUNTIME_SEED",
      FIELD(seed),
      .type = STEL__KEY_SEED,
      .automatic = true,
      .zero = true,
      .min = INT64_MIN,
      .max = INT64_MAX,
      .preset = NO_CONSTANT,
      .doc = "what chance decides: victims, select" },
};

const stel__key *stel__config_keys(size_t *n) {
    *n = STEL__COUNT_OF(keys);
    return keys;
}

int64_t stel__config_get(const stel_config *c, const stel__key *k) {
    const char *at = (const char *)c + k->offset;
    int i;
    unsigned u;
    int64_t l;
    if (k->type == STEL__KEY_UNSIGNED) {
        memcpy(&u, at, sizeof u);
        return u;
    }
    if (k->width == sizeof i) {
        memcpy(&i, at, sizeof i);
        return i;
    }
    STEL__ASSERT(k->width == sizeof l); /* a size beyond INT64_MAX shows as negative: out of every range */
    memcpy(&l, at, sizeof l);
    return l;
}

void stel__config_put(stel_config *c, const stel__key *k, int64_t value) {
    char *at = (char *)c + k->offset;
    if (k->width == sizeof(int)) {
        int i = (int)value; /* the same bytes for unsigned: the range was checked */
        memcpy(at, &i, sizeof i);
    } else {
        STEL__ASSERT(k->width == sizeof value);
        memcpy(at, &value, sizeof value);
    }
}

void stel_config_init_sized(stel_config *c, size_t size) {
    if (!c || size < sizeof c->size || size > STEL__CONFIG_SIZE_SANE) return;
    stel_config full;
    memset(&full, 0, sizeof full);
    memcpy(full.backend, "auto", sizeof "auto");
    for (size_t i = 0; i < STEL__COUNT_OF(keys); i++)
        if (keys[i].type != STEL__KEY_NAME) stel__config_put(&full, &keys[i], keys[i].preset);
    full.size = size;
    memset(c, 0, size);
    memcpy(c, &full, size < sizeof full ? size : sizeof full);
}

static void say_range(const stel_config *c, const stel__key *k) {
    char value[48];
    if (k->type == STEL__KEY_SIZE)
        snprintf(value, sizeof value, "%zu", c->stack_bytes);
    else
        snprintf(value, sizeof value, "%lld", (long long)stel__config_get(c, k));
    if (k->type == STEL__KEY_DURATION)
        stel__warn("error: stel_config.%s = %s is out of range (0 for the default%s, or more)", k->member, value,
                   k->off ? ", -1 for never" : "");
    else
        stel__warn("error: stel_config.%s = %s is out of range (%s%lld..%lld)", k->member, value,
                   k->min > 0 ? "0 for the default, or " : "", (long long)k->min, (long long)k->max);
}

/* One field of a program's settings: fill in a constant default, or check. */
static int adopt_field(stel_config *c, const stel__key *k) {
    if (k->type == STEL__KEY_NAME) {
        if (!memchr(c->backend, 0, sizeof c->backend)) {
            stel__warn("error: stel_config.%s is not terminated", k->member);
            return -EINVAL;
        }
        if (!c->backend[0]) memcpy(c->backend, "auto", sizeof "auto");
        return 0;
    }
    int64_t value = stel__config_get(c, k);
    if (value == 0) {
        stel__config_put(c, k, k->preset);
        return 0;
    }
    if ((value < k->min || value > k->max) && !(k->off && value == -1)) {
        say_range(c, k);
        return -EINVAL;
    }
    return 0;
}

int stel__config_adopt(stel_config *out, const stel_config *given) {
    int rc = 0;
    memset(out, 0, sizeof *out);
    if (given) {
        size_t size = given->size;
        if (size < sizeof given->size || size > STEL__CONFIG_SIZE_SANE) {
            stel__warn("error: stel_config.size = %zu: call stel_config_init first", size);
            return -EINVAL;
        }
        memcpy(out, given, size < sizeof *out ? size : sizeof *out);
        for (size_t i = sizeof *out; i < size; i++)
            if (((const char *)given)[i]) {
                stel__warn("error: stel_config has settings that this library (%s) does not know", stel_version());
                rc = -EINVAL;
                break;
            }
        /* A field that the caller knows only half of is not known. */
        for (size_t i = 0; i < STEL__COUNT_OF(keys); i++)
            if ((size_t)keys[i].offset + keys[i].width > size) memset((char *)out + keys[i].offset, 0, keys[i].width);
    }
    out->size = sizeof *out;
    for (size_t i = 0; i < STEL__COUNT_OF(keys); i++)
        if (adopt_field(out, &keys[i]) < 0) rc = -EINVAL;
    return rc;
}

int stel__config_hand_out(const stel_config *c, stel_config *out, size_t size) {
    if (!out || size < sizeof out->size || size > STEL__CONFIG_SIZE_SANE) return -EINVAL;
    memset(out, 0, size);
    memcpy(out, c, size < sizeof *c ? size : sizeof *c);
    out->size = size;
    return 0;
}
