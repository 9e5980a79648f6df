/* Addresses in messages, as words that addr2line or a reader can use. */
#include "host/host.h"
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

const char *stel__symbol(char text[STEL__SYMBOL_BYTES], const void *address) {
    Dl_info info;
    if (!dladdr(address, &info) || !info.dli_fname) {
        (void)snprintf(text, STEL__SYMBOL_BYTES, "%p", address);
        return text;
    }
    const char *slash = strrchr(info.dli_fname, '/'), *file = slash ? slash + 1 : info.dli_fname;
    uintptr_t at = (uintptr_t)address;
    if (info.dli_sname)
        (void)snprintf(text, STEL__SYMBOL_BYTES, "%.64s+0x%zx (%.40s)", info.dli_sname,
                       (size_t)(at - (uintptr_t)info.dli_saddr), file);
    else
        (void)snprintf(text, STEL__SYMBOL_BYTES, "%.64s+0x%zx", file, (size_t)(at - (uintptr_t)info.dli_fbase));
    return text;
}
