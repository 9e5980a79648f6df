/* The exceptions of C++ code in fibers. Its runtime library keeps two words a thread: the exceptions that are being
 * handled, innermost first, and how many are on their way up the stack. Both belong to whoever throws and catches, which
 * here is the fiber: one that waits in the middle of a catch block must find its own exception when it goes on, on
 * whatever thread. So sched takes the words out when such a fiber leaves, and puts them back when it is resumed.
 *
 * The words are found through __cxa_get_globals, which the C++ ABI for Itanium names (section 2.2.2), and which all of
 * its implementations export. We must not need a C++ library, so it is looked for: a weak symbol finds the one that the
 * program is linked to; one that somebody has loaded since, in whatever scope, is found by its name. A copy that hides
 * its symbols is not found. */
#include "host/host.h"
#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <string.h>

typedef stel__exceptions *get_globals(void);

__attribute__((weak)) stel__exceptions *__cxa_get_globals(void);

/* One loaded object: is it a C++ library? It is not opened here, as the loader's locks are not to be nested so. */
static int look_at(struct dl_phdr_info *object, size_t size, void *path) {
    (void)size;
    const char *slash = object->dlpi_name ? strrchr(object->dlpi_name, '/') : NULL;
    const char *name = slash ? slash + 1 : object->dlpi_name;
    if (!name || (strncmp(name, "libstdc++.so", 12) != 0 && strncmp(name, "libc++", 6) != 0)) return 0;
    size_t length = strlen(object->dlpi_name);
    if (length >= PATH_MAX) return 0;
    memcpy(path, object->dlpi_name, length + 1);
    return 1;
}

/* In a library that somebody has loaded for himself alone. */
static void *look_into_others(void) {
    char path[PATH_MAX];
    if (!dl_iterate_phdr(look_at, path)) return NULL;
    void *library = dlopen(path, RTLD_NOLOAD | RTLD_LAZY);
    if (!library) return NULL;
    void *address = dlsym(library, "__cxa_get_globals");
    (void)dlclose(library); /* it stays: somebody else has it */
    return address;
}

stel__exceptions *stel__exceptions_of_thread(void) {
    if (__cxa_get_globals) return __cxa_get_globals();
    get_globals *get = NULL;
    void *address = look_into_others();
    if (!address) return NULL;
    memcpy(&get, &address, sizeof get);
    return get();
}
