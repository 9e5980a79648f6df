/* Addresses and names: listen, dial, getaddrinfo.
 *
 *   address  "unix:" path | host ":" port      host: digits and dots, "[" IPv6 "]", a name (dial only), or nothing
 *                                              (listen only: every address); port: 0 ... 65535, or for dial a
 *                                              service's name
 *
 * Names are resolved on the offload pool; a caller that is cut short leaves the resolver behind, to be cleaned up after
 * by its thread. */
#include "host/host.h"
#include "io/io.h"
#include "poller/poller.h"
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stellane/io.h>
#include <string.h>
#include <sys/un.h>

enum { HOST_BYTES = NI_MAXHOST, SERVICE_BYTES = NI_MAXSERV };

typedef struct socket_address {
    union {
        struct sockaddr any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
        struct sockaddr_un local;
    } u;
    socklen_t bytes;
} socket_address;

/* ---- getaddrinfo ---- */

typedef struct name_job {
    stel__job job;
    int code; /* EAI_x */
    struct addrinfo *found;
    struct addrinfo hints;
    const char *node, *service;
    char text[]; /* copies of both: the caller may be gone */
} name_job;

static void run_name_job(stel__job *job) {
    name_job *n = STEL__CONTAINER(job, name_job, job);
    n->code = stel__sys_getaddrinfo(n->node, n->service, &n->hints, &n->found);
}

static void dispose_name_job(stel__job *job) {
    name_job *n = STEL__CONTAINER(job, name_job, job);
    if (n->found) freeaddrinfo(n->found);
    stel__free(n);
}

static name_job *name_job_new(const char *node, const char *service, const struct addrinfo *hints) {
    size_t node_bytes = node ? strlen(node) + 1 : 0, service_bytes = service ? strlen(service) + 1 : 0;
    name_job *n = stel__alloc(sizeof *n + node_bytes + service_bytes);
    if (!n) return NULL;
    n->job = (stel__job){ .run = run_name_job, .dispose = dispose_name_job };
    if (node) n->node = memcpy(n->text, node, node_bytes);
    if (service) n->service = memcpy(n->text + node_bytes, service, service_bytes);
    if (hints) {
        n->hints.ai_flags = hints->ai_flags;
        n->hints.ai_family = hints->ai_family;
        n->hints.ai_socktype = hints->ai_socktype;
        n->hints.ai_protocol = hints->ai_protocol;
    } else {
        n->hints.ai_flags = AI_V4MAPPED | AI_ADDRCONFIG; /* what getaddrinfo(3) takes for none */
    }
    return n;
}

int stel_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
    if (!result) return -EINVAL;
    if (stel__load_relaxed(&stel__forked)) return -EPERM; /* no partner: set before the child runs anything */
    stel__waiter *w = stel__waiter_self();
    name_job *n = w ? name_job_new(node, service, hints) : NULL;
    if (!n) return STEL_EAI(EAI_MEMORY);
    int rc = stel__job_run(&n->job, w);
    if (rc < 0) return rc == -EAGAIN ? STEL_EAI(EAI_AGAIN) : rc;
    rc = n->code;
    if (rc == 0) {
        *result = n->found;
        n->found = NULL;
    }
    dispose_name_job(&n->job);
    return rc ? STEL_EAI(rc) : 0;
}

/* ---- reading addresses ---- */

static int parse_local(const char *path, socket_address *out) {
    size_t bytes = strlen(path);
    if (bytes == 0) return -EINVAL;
    if (bytes >= sizeof out->u.local.sun_path) return -ENAMETOOLONG;
    memset(out, 0, sizeof *out);
    out->u.local.sun_family = AF_UNIX;
    memcpy(out->u.local.sun_path, path, bytes + 1);
    out->bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes + 1);
    return 0;
}

/* "host:port" into its two parts. */
static int split(const char *address, char host[HOST_BYTES], char service[SERVICE_BYTES]) {
    const char *colon = strrchr(address, ':');
    if (!colon) return -EINVAL;
    const char *begin = address, *end = colon;
    if (*begin == '[') {
        begin++;
        if (end == address || *--end != ']' || end < begin + 2) return -EINVAL;
    } else if (memchr(begin, ':', (size_t)(end - begin))) {
        return -EINVAL; /* IPv6 without brackets: where does the port begin? */
    }
    size_t host_bytes = (size_t)(end - begin), service_bytes = strlen(colon + 1);
    if (host_bytes >= HOST_BYTES || service_bytes >= SERVICE_BYTES) return -ENAMETOOLONG;
    if (service_bytes == 0) return -EINVAL;
    memcpy(host, begin, host_bytes);
    host[host_bytes] = 0;
    memcpy(service, colon + 1, service_bytes + 1);
    return 0;
}

/* The port, or -EINVAL when it is not 1 to 5 digits and at most 65,535. */
static int parse_port(const char *text) {
    int port = 0;
    size_t n = strlen(text);
    if (n == 0 || n > 5) return -EINVAL;
    for (; *text; text++) {
        if (*text < '0' || *text > '9') return -EINVAL;
        port = port * 10 + (*text - '0');
    }
    return port <= 65535 ? port : -EINVAL;
}

/* Digits only: 0, or -EINVAL. */
static int parse_numeric(const char *host, int port, socket_address *out) {
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, host, &out->u.in4.sin_addr) == 1) {
        out->u.in4.sin_family = AF_INET;
        out->u.in4.sin_port = htons((uint16_t)port);
        out->bytes = sizeof out->u.in4;
        return 0;
    }
    if (inet_pton(AF_INET6, host, &out->u.in6.sin6_addr) == 1) {
        out->u.in6.sin6_family = AF_INET6;
        out->u.in6.sin6_port = htons((uint16_t)port);
        out->bytes = sizeof out->u.in6;
        return 0;
    }
    return -EINVAL;
}

/* ---- listen ---- */

static int listen_at(const socket_address *a, int backlog) {
    int family = a->u.any.sa_family, on = 1, off = 0;
    int fd = stel_socket(family, SOCK_STREAM, 0);
    if (fd < 0) return fd;
    int rc = 0;
    if (family != AF_UNIX) rc = stel__sys_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    bool every = family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&a->u.in6.sin6_addr);
    if (rc == 0 && every) rc = stel__sys_setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (rc == 0) rc = stel__sys_bind(fd, &a->u.any, a->bytes);
    if (rc == 0) rc = stel__sys_listen(fd, backlog);
    if (rc == 0) return fd;
    (void)stel_close(fd);
    return rc;
}

int stel_listen(const char *address, int backlog) {
    char host[HOST_BYTES], service[SERVICE_BYTES];
    socket_address a;
    if (!address) return -EINVAL;
    if (strncmp(address, "unix:", 5) == 0) {
        int rc = parse_local(address + 5, &a);
        return rc < 0 ? rc : listen_at(&a, backlog);
    }
    int rc = split(address, host, service);
    if (rc < 0) return rc;
    int port = parse_port(service);
    if (port < 0) return port;
    if (*host) {
        rc = parse_numeric(host, port, &a);
        return rc < 0 ? rc : listen_at(&a, backlog);
    }
    /* Every address: both protocols through one socket, or what there is of them. */
    (void)parse_numeric("::", port, &a);
    rc = listen_at(&a, backlog);
    if (rc != -EAFNOSUPPORT && rc != -EADDRNOTAVAIL) return rc;
    (void)parse_numeric("0.0.0.0", port, &a);
    return listen_at(&a, backlog);
}

/* ---- dial ---- */

/* *cut: it was the caller's deadline or cancellation that ended it, so other addresses need not be tried. */
static int dial_to(const struct sockaddr *address, socklen_t bytes, bool *cut) {
    *cut = false;
    int fd = stel_socket(address->sa_family, SOCK_STREAM, 0);
    if (fd < 0) return fd;
    int rc = stel_connect(fd, address, bytes);
    if (rc == 0) return fd;
    *cut = rc == -ECANCELED || (rc == -ETIMEDOUT && stel_timed_out());
    (void)stel_close(fd);
    return rc;
}

static int dial_name(const char *host, const char *service) {
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG }, *found;
    int rc = stel_getaddrinfo(host, service, &hints, &found);
    if (rc < 0) return rc;
    rc = STEL_EAI(EAI_NODATA);
    bool cut = false;
    for (const struct addrinfo *a = found; a && rc < 0 && !cut; a = a->ai_next)
        rc = dial_to(a->ai_addr, a->ai_addrlen, &cut);
    freeaddrinfo(found);
    return rc;
}

int stel_dial(const char *address) {
    char host[HOST_BYTES], service[SERVICE_BYTES];
    socket_address a;
    bool cut;
    if (!address) return -EINVAL;
    if (strncmp(address, "unix:", 5) == 0) {
        int rc = parse_local(address + 5, &a);
        return rc < 0 ? rc : dial_to(&a.u.any, a.bytes, &cut);
    }
    int rc = split(address, host, service);
    if (rc < 0) return rc;
    if (!*host) return -EINVAL;
    int port = parse_port(service);
    if (port >= 0 && parse_numeric(host, port, &a) == 0) return dial_to(&a.u.any, a.bytes, &cut);
    return dial_name(host, service);
}
