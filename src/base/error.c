/* The words for every code that the library can return: our own text, not strerror's, which depends on the locale and
 * may live in a buffer of the thread. Each ends with the name in brackets, for those who search. */
#include "base/base.h"
#include <netdb.h>
#include <stellane/base.h>

#define WORDS(code, text) [code] = text " (" #code ")"
static const char *const errno_words[] = {
    [0] = "success",
    WORDS(EPERM, "operation not permitted"),
    WORDS(ENOENT, "no such file or directory"),
    WORDS(ESRCH, "no such process or fiber"),
    WORDS(EINTR, "interrupted by a signal"),
    WORDS(EIO, "input/output error"),
    WORDS(ENXIO, "no such device or address"),
    WORDS(E2BIG, "argument list too long"),
    WORDS(ENOEXEC, "not an executable format"),
    WORDS(EBADF, "bad file descriptor"),
    WORDS(ECHILD, "no child process"),
    WORDS(EAGAIN, "not ready now, try again"),
    WORDS(ENOMEM, "out of memory"),
    WORDS(EACCES, "permission denied"),
    WORDS(EFAULT, "bad address"),
    WORDS(ENOTBLK, "block device required"),
    WORDS(EBUSY, "busy"),
    WORDS(EEXIST, "exists already"),
    WORDS(EXDEV, "link across file systems"),
    WORDS(ENODEV, "no such device"),
    WORDS(ENOTDIR, "not a directory"),
    WORDS(EISDIR, "is a directory"),
    WORDS(EINVAL, "invalid argument"),
    WORDS(ENFILE, "too many open files in the system"),
    WORDS(EMFILE, "too many open files in the process"),
    WORDS(ENOTTY, "not a terminal, or no such control for this device"),
    WORDS(ETXTBSY, "program file is busy"),
    WORDS(EFBIG, "file too large"),
    WORDS(ENOSPC, "no space left on device"),
    WORDS(ESPIPE, "cannot seek"),
    WORDS(EROFS, "read-only file system"),
    WORDS(EMLINK, "too many links"),
    WORDS(EPIPE, "broken pipe, or channel closed"),
    WORDS(EDOM, "argument out of the function's domain"),
    WORDS(ERANGE, "result out of range"),
    WORDS(EDEADLK, "would deadlock"),
    WORDS(ENAMETOOLONG, "file name too long"),
    WORDS(ENOLCK, "no record locks available"),
    WORDS(ENOSYS, "not implemented by the kernel"),
    WORDS(ENOTEMPTY, "directory not empty"),
    WORDS(ELOOP, "too many symbolic links"),
    WORDS(ENOMSG, "no message of this type"),
    WORDS(EIDRM, "identifier removed"),
    WORDS(ECHRNG, "channel number out of range"),
    WORDS(EL2NSYNC, "level 2 not synchronised"),
    WORDS(EL3HLT, "level 3 halted"),
    WORDS(EL3RST, "level 3 reset"),
    WORDS(ELNRNG, "link number out of range"),
    WORDS(EUNATCH, "protocol driver not attached"),
    WORDS(ENOCSI, "no CSI structure available"),
    WORDS(EL2HLT, "level 2 halted"),
    WORDS(EBADE, "invalid exchange"),
    WORDS(EBADR, "invalid request descriptor"),
    WORDS(EXFULL, "exchange full"),
    WORDS(ENOANO, "no anode"),
    WORDS(EBADRQC, "invalid request code"),
    WORDS(EBADSLT, "invalid slot"),
    WORDS(EBFONT, "bad font file format"),
    WORDS(ENOSTR, "not a stream"),
    WORDS(ENODATA, "no data, or end of file"),
    WORDS(ETIME, "timer expired"),
    WORDS(ENOSR, "out of streams resources"),
    WORDS(ENONET, "machine not on the network"),
    WORDS(ENOPKG, "package not installed"),
    WORDS(EREMOTE, "object is remote"),
    WORDS(ENOLINK, "link has been severed"),
    WORDS(EADV, "advertise error"),
    WORDS(ESRMNT, "srmount error"),
    WORDS(ECOMM, "communication error on send"),
    WORDS(EPROTO, "protocol error"),
    WORDS(EMULTIHOP, "multihop attempted"),
    WORDS(EDOTDOT, "RFS specific error"),
    WORDS(EBADMSG, "bad message"),
    WORDS(EOVERFLOW, "value too large for its type"),
    WORDS(ENOTUNIQ, "name not unique on network"),
    WORDS(EBADFD, "file descriptor in bad state"),
    WORDS(EREMCHG, "remote address changed"),
    WORDS(ELIBACC, "cannot reach a needed shared library"),
    WORDS(ELIBBAD, "corrupted shared library"),
    WORDS(ELIBSCN, "corrupted .lib section"),
    WORDS(ELIBMAX, "too many shared libraries"),
    WORDS(ELIBEXEC, "cannot execute a shared library"),
    WORDS(EILSEQ, "invalid multibyte character"),
    WORDS(ERESTART, "interrupted system call should be restarted"),
    WORDS(ESTRPIPE, "streams pipe error"),
    WORDS(EUSERS, "too many users"),
    WORDS(ENOTSOCK, "not a socket"),
    WORDS(EDESTADDRREQ, "destination address required"),
    WORDS(EMSGSIZE, "message too long"),
    WORDS(EPROTOTYPE, "wrong protocol type for socket"),
    WORDS(ENOPROTOOPT, "protocol option not available"),
    WORDS(EPROTONOSUPPORT, "protocol not supported"),
    WORDS(ESOCKTNOSUPPORT, "socket type not supported"),
    WORDS(EOPNOTSUPP, "operation not supported"),
    WORDS(EPFNOSUPPORT, "protocol family not supported"),
    WORDS(EAFNOSUPPORT, "address family not supported"),
    WORDS(EADDRINUSE, "address in use already"),
    WORDS(EADDRNOTAVAIL, "cannot assign this address"),
    WORDS(ENETDOWN, "network is down"),
    WORDS(ENETUNREACH, "network is unreachable"),
    WORDS(ENETRESET, "connection dropped by network reset"),
    WORDS(ECONNABORTED, "connection aborted"),
    WORDS(ECONNRESET, "connection reset by peer"),
    WORDS(ENOBUFS, "no buffer space"),
    WORDS(EISCONN, "connected already"),
    WORDS(ENOTCONN, "not connected"),
    WORDS(ESHUTDOWN, "runtime is stopping, or endpoint is shut down"),
    WORDS(ETOOMANYREFS, "too many references"),
    WORDS(ETIMEDOUT, "time has run out"),
    WORDS(ECONNREFUSED, "connection refused"),
    WORDS(EHOSTDOWN, "host is down"),
    WORDS(EHOSTUNREACH, "no route to host"),
    WORDS(EALREADY, "in progress already"),
    WORDS(EINPROGRESS, "now in progress"),
    WORDS(ESTALE, "stale file handle"),
    WORDS(EUCLEAN, "structure needs cleaning"),
    WORDS(ENOTNAM, "not a XENIX named type file"),
    WORDS(ENAVAIL, "no XENIX semaphores available"),
    WORDS(EISNAM, "is a named type file"),
    WORDS(EREMOTEIO, "remote input/output error"),
    WORDS(EDQUOT, "disk quota exceeded"),
    WORDS(ENOMEDIUM, "no medium found"),
    WORDS(EMEDIUMTYPE, "wrong medium type"),
    WORDS(ECANCELED, "cancelled"),
    WORDS(ENOKEY, "required key not available"),
    WORDS(EKEYEXPIRED, "key has expired"),
    WORDS(EKEYREVOKED, "key has been revoked"),
    WORDS(EKEYREJECTED, "key was rejected by service"),
    WORDS(EOWNERDEAD, "owner has died"),
    WORDS(ENOTRECOVERABLE, "state not recoverable"),
    WORDS(ERFKILL, "not possible: radio is switched off"),
    WORDS(EHWPOISON, "memory page has a hardware error"),
};
#undef WORDS

static const char *resolver_words(int code) {
#define WORDS(name, text)                                                                                              \
    case STEL_EAI(EAI_##name):                                                                                         \
        return text " (EAI_" #name ")"
    switch (code) {
        WORDS(BADFLAGS, "bad flags for the resolver");
        WORDS(NONAME, "name or service not known");
        WORDS(AGAIN, "temporary failure in name resolution");
        WORDS(FAIL, "name resolution failed for good");
        WORDS(FAMILY, "address family not supported by the resolver");
        WORDS(SOCKTYPE, "socket type not supported by the resolver");
        WORDS(SERVICE, "service not available for this socket type");
        WORDS(MEMORY, "resolver is out of memory");
        WORDS(SYSTEM, "a system call of the resolver failed");
        WORDS(OVERFLOW, "resolver's buffer overflowed");
        WORDS(NODATA, "name has no address");
        WORDS(ADDRFAMILY, "name has no address of this family");
        WORDS(INPROGRESS, "resolver request in progress");
        WORDS(CANCELED, "resolver request cancelled");
        WORDS(NOTCANCELED, "resolver request not cancelled");
        WORDS(ALLDONE, "all resolver requests done");
        WORDS(INTR, "resolver interrupted by a signal");
        WORDS(IDN_ENCODE, "name cannot be encoded");
    default:
        return NULL;
    }
#undef WORDS
}

const char *stel_strerror(int code) {
    const char *words = NULL;
    if (code <= 0 && code > -(int)STEL__COUNT_OF(errno_words))
        words = errno_words[-code];
    else
        words = resolver_words(code);
    return words ? words : "unknown error";
}

const char *stel_version(void) {
    return STEL_VERSION;
}
