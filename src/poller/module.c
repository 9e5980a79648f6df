/* Modules: backends that are shared objects of their own, loaded when somebody asks for their name.
 *
 * Where. stellane-backend-NAME.so is looked for in the directories of STELLANE_MODULE_PATH (separated by colons) if that is
 * set, and nowhere else then; a program that runs with another's rights (set-user-ID and the like) does not listen to it.
 * Otherwise in the directory "stellane" beside the shared library as it was loaded, so that a tree that was moved, or
 * one that was not installed, finds its own; and last where this library was to be installed, which serves programs that
 * it was linked into. Names are of a-z, 0-9 and _ only: a name can point nowhere else.
 *
 * What for. A library that not everybody has (libuv) must not be needed by all. So a module links what it is about and
 * nothing of ours: it gets our functions by pointer (stel_module_host), which works as well for a program that has this
 * library linked in, where a module could find no symbol.
 *
 * Failure. Nothing that is wrong with a module ends the process (unless its own code does): the words go to whoever
 * asked. A module that was found and is no good is remembered with them, as it will not get better: the loader would
 * map it, run what it has to run, and throw it out again at each question. One that was not found is looked for again the
 * next time. What was loaded stays: its functions are in the table for ever.
 *
 * The lock is held over all of that, so that nothing is loaded twice. A caller that comes meanwhile waits, and a worker
 * with it; that is at the creation of runtimes, as a rule. */
#include "poller/inside.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BROKEN_MAX = 16, NAME_BYTES = 32, WHY_BYTES = 256 };

static stel__lock
    module_lock; /* over dlopen, which may take its time: nothing else is taken in there but the table's */

/* under module_lock */
static struct broken { char name[NAME_BYTES], why[WHY_BYTES]; } broken[BROKEN_MAX];
static unsigned broken_count;

static void warn_line(const char *text) {
    stel__warn("%s", text);
}

static const stel_module_host host = {
    .size = sizeof host,
    .abi = STEL_BACKEND_ABI,
    .now = stel__clock_now,
    .warn = warn_line,
    .alloc = stel__alloc,
    .release = stel__free,
};

static bool is_module_name(const char *name) {
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");
    return n > 0 && n < NAME_BYTES && !name[n] && strcmp(name, "auto") != 0;
}

/* ---- where ---- */

/* The directory of the shared library, without a slash at its end; false: we are part of a program. */
static bool own_directory(char path[PATH_MAX]) {
    static const char library[] = "libstellane-fiber.so";
    Dl_info info;
    if (!dladdr((const void *)&host, &info) || !info.dli_fname) return false;
    const char *slash = strrchr(info.dli_fname, '/');
    if (!slash || strncmp(slash + 1, library, sizeof library - 1) != 0) return false;
    int n = snprintf(path, PATH_MAX, "%.*s", (int)(slash - info.dli_fname), info.dli_fname);
    return n >= 0 && n < PATH_MAX;
}

typedef struct search {
    char path[PATH_MAX]; /* of the file that was found */
    int error;           /* a file is there, but cannot be read */
    char looked[WHY_BYTES / 2];
} search;

/* Is it there? A file that is, and cannot be read, ends the search as well. */
static bool look_in(search *s, const char *directory, size_t length, const char *below, const char *name) {
    int n = snprintf(s->path, sizeof s->path, "%.*s%s/stellane-backend-%s.so", (int)length, directory, below, name);
    if (!length || n < 0 || (size_t)n >= sizeof s->path) return false;
    size_t used = strlen(s->looked);
    (void)snprintf(s->looked + used, sizeof s->looked - used, "%s%.*s%s", used ? ", " : "", (int)length, directory,
                   below);
    int fd = stel__sys_open(s->path, O_RDONLY | O_CLOEXEC, 0);
    if (fd == -ENOENT || fd == -ENOTDIR) return false;
    if (fd >= 0) (void)stel__sys_close(fd);
    s->error = fd < 0 ? fd : 0;
    return true;
}

static bool look(search *s, const char *name) {
    const char *list = secure_getenv("STELLANE_MODULE_PATH");
    if (list && *list) {
        for (size_t n; *list; list += n + (list[n] == ':')) {
            n = strcspn(list, ":");
            if (look_in(s, list, n, "", name)) return true;
        }
        return false;
    }
    char own[PATH_MAX];
    if (own_directory(own) && look_in(s, own, strlen(own), "/stellane", name)) return true;
    return look_in(s, STELLANE_MODULE_DIRECTORY, strlen(STELLANE_MODULE_DIRECTORY), "", name);
}

/* ---- loading ---- */

typedef const stel_backend_ops *module_fn(const stel_module_host *);

/* The table of functions that the loaded module gives us, or NULL with the reason in why. */
static const stel_backend_ops *ops_of(void *module, char *why, size_t bytes) {
    void *symbol = dlsym(module, "stel_backend_module");
    if (!symbol) {
        (void)snprintf(why, bytes, "it has no function stel_backend_module");
        return NULL;
    }
    module_fn *fn;
    memcpy(&fn, &symbol, sizeof fn); /* POSIX: they are alike; C has no cast for it */
    const stel_backend_ops *ops = fn(&host);
    if (!ops)
        (void)snprintf(why, bytes, "it does not want to work with this library (abi %d)", STEL_BACKEND_ABI);
    else if (ops->abi != STEL_BACKEND_ABI)
        (void)snprintf(why, bytes, "it is made for abi %d, and this library has %d", ops->abi, STEL_BACKEND_ABI);
    else
        return ops;
    return NULL;
}

/* Load the file and register what it gives. 0 or -ELIBBAD, or what registering said; the reason in why. */
static int load_file(const char *path, const char *name, char *why, size_t bytes) {
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!module) {
        const char *text = dlerror();
        (void)snprintf(why, bytes, "%.240s", text ? text : path);
        return -ELIBBAD;
    }
    char reason[WHY_BYTES / 2] = "its table of functions is not complete";
    const stel_backend_ops *ops = ops_of(module, reason, sizeof reason);
    int rc = ops ? stel_backend_register(name, ops) : -ELIBBAD;
    if (rc == 0 || rc == -EEXIST) return 0; /* -EEXIST: somebody registered the name meanwhile; that holds */
    if (rc == -ENOSPC) (void)snprintf(reason, sizeof reason, "as many backends as there may be are registered");
    (void)snprintf(why, bytes, "%.120s: %s", path, reason);
    (void)dlclose(module);
    return rc == -ENOSPC ? rc : -ELIBBAD;
}

static const struct broken *find_broken(const char *name) {
    for (unsigned i = 0; i < broken_count; i++)
        if (strcmp(broken[i].name, name) == 0) return &broken[i];
    return NULL;
}

static void remember(const char *name, const char *why) {
    if (broken_count == BROKEN_MAX) return;
    (void)snprintf(broken[broken_count].name, NAME_BYTES, "%s", name);
    (void)snprintf(broken[broken_count++].why, WHY_BYTES, "%s", why);
}

/* Under the lock. */
static int load(const char *name, char *why, size_t bytes) {
    if (stel__backend_is_registered(name)) return 0; /* whoever had the lock before us has loaded it */
    const struct broken *b = find_broken(name);
    if (b) {
        (void)snprintf(why, bytes, "%s", b->why);
        return -ELIBBAD;
    }
    search s = { .error = 0 };
    if (!look(&s, name)) {
        (void)snprintf(why, bytes, "there is no stellane-backend-%s.so in %s", name,
                       *s.looked ? s.looked : "the module path");
        return -ENOENT;
    }
    if (s.error) {
        (void)snprintf(why, bytes, "%.160s: %s", s.path, stel_strerror(s.error));
        return -ELIBBAD; /* but not for ever */
    }
    char reason[WHY_BYTES] = "";
    int rc = load_file(s.path, name, reason, sizeof reason);
    if (rc == -ELIBBAD) remember(name, reason);
    (void)snprintf(why, bytes, "%s", reason);
    return rc == -ENOSPC ? -ELIBBAD : rc;
}

int stel__module_load(const char *name, char *why, size_t bytes) {
    if (!is_module_name(name)) {
        (void)snprintf(why, bytes, "no backend has this name");
        return -ENOENT;
    }
    if (stel__load_relaxed(&stel__forked)) return -EPERM; /* no partner: set before the child runs anything */
    stel__lock_take(&module_lock);
    int rc = load(name, why, bytes);
    stel__lock_give(&module_lock);
    return rc;
}
