/* Lets keepalived's checkers run on a kernel without IPVS: whatever it asks of IPVS succeeds and does nothing.
 *
 * Loaded with LD_PRELOAD. keepalived asks by netlink first, is told that there is no such family, and falls back to
 * socket options. It asks at its start, its end and when a target's state changes, never while targets stay well, so
 * nothing that a row measures is made cheaper by this. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

/* IP_VS_BASE_CTL of linux/ip_vs.h, and the 64 numbers that belong to IPVS from there on. */
enum { FIRST = 64 + 1024 + 64, LAST = FIRST + 63 };

static int of_ipvs(int level, int name) { return level == IPPROTO_IP && FIRST <= name && name <= LAST; }

int getsockopt(int fd, int level, int name, void *restrict value, socklen_t *restrict length) {
    static int (*real)(int, int, int, void *restrict, socklen_t *restrict);
    if (of_ipvs(level, name)) {
        memset(value, 0, *length);
        return 0;
    }
    if (!real) real = dlsym(RTLD_NEXT, "getsockopt");
    return real(fd, level, name, value, length);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t length) {
    static int (*real)(int, int, int, const void *, socklen_t);
    if (of_ipvs(level, name)) return 0;
    if (!real) real = dlsym(RTLD_NEXT, "setsockopt");
    return real(fd, level, name, value, length);
}
