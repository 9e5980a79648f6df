/* The addresses of a socket as text: what stel_listen and stel_dial (name.c) would take for the same place. */
#include "host/host.h"
#include "host/sys.h"
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stellane/io.h>
#include <string.h>
#include <sys/un.h>

typedef struct name {
    union {
        struct sockaddr any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
        struct sockaddr_un local;
        struct sockaddr_storage storage;
    } u;
    socklen_t bytes;
} name;

/* How many bytes it takes, as snprintf counts. */
static int write_in4(const name *n, char *text, size_t bytes) {
    char host[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &n->u.in4.sin_addr, host, sizeof host);
    return snprintf(text, bytes, "%s:%u", host, ntohs(n->u.in4.sin_port));
}

static int write_in6(const name *n, char *text, size_t bytes) {
    char host[INET6_ADDRSTRLEN], zone[IF_NAMESIZE + 1] = "";
    inet_ntop(AF_INET6, &n->u.in6.sin6_addr, host, sizeof host);
    if (n->u.in6.sin6_scope_id != 0) {
        zone[0] = '%';
        if (!if_indextoname(n->u.in6.sin6_scope_id, zone + 1))
            (void)snprintf(zone + 1, sizeof zone - 1, "%u", n->u.in6.sin6_scope_id);
    }
    return snprintf(text, bytes, "[%s%s]:%u", host, zone, ntohs(n->u.in6.sin6_port));
}

/* A socket without a name is "unix:"; an abstract name begins with a zero byte, shown as '@'. */
static int write_local(const name *n, char *text, size_t bytes) {
    size_t length =
        n->bytes > offsetof(struct sockaddr_un, sun_path) ? n->bytes - offsetof(struct sockaddr_un, sun_path) : 0;
    char path[sizeof n->u.local.sun_path + 1] = "";
    if (length > sizeof n->u.local.sun_path) length = sizeof n->u.local.sun_path;
    memcpy(path, n->u.local.sun_path, length);
    if (length > 1 && path[0] == 0) path[0] = '@';
    return snprintf(text, bytes, "unix:%s", path);
}

static int write_name(const name *n, char *text, size_t bytes) {
    int need = -1;
    if (n->u.any.sa_family == AF_INET) need = write_in4(n, text, bytes);
    if (n->u.any.sa_family == AF_INET6) need = write_in6(n, text, bytes);
    if (n->u.any.sa_family == AF_UNIX) need = write_local(n, text, bytes);
    if (need < 0) return -EAFNOSUPPORT;
    return (size_t)need < bytes ? 0 : -ENOSPC;
}

int stel_local_address(int fd, char *text, size_t bytes) {
    name n = { .bytes = sizeof n.u };
    if (!text) return -EINVAL;
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    int rc = stel__sys_getsockname(fd, &n.u.any, &n.bytes);
    return rc < 0 ? rc : write_name(&n, text, bytes);
}

int stel_peer_address(int fd, char *text, size_t bytes) {
    name n = { .bytes = sizeof n.u };
    if (!text) return -EINVAL;
    if (stel__load_relaxed(&stel__forked)) return -EPERM;
    int rc = stel__sys_getpeername(fd, &n.u.any, &n.bytes);
    return rc < 0 ? rc : write_name(&n, text, bytes);
}
