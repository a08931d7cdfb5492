/* The limit: a helper in C that does lowport's work and nothing else. One thread, one epoll set. It speaks enough of the
 * protocol for the load (bind, release, status), names its peers by SO_PEERCRED and SO_PEERGROUPS, binds, listens, writes
 * the same records with the same chain, one write(2) a record and before the reply, and passes the socket by SCM_RIGHTS.
 * It has no policy, limits, quotas or schema, and it does not survive bad input: never run it for anything but a bench.
 *
 *   reference SOCKET AUDIT write|fsync */
#include "measure.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FD = 65536, LINE = 65536, EVENTS = 64 };

struct connection {
    int number, groups_length, first; /* of its leases */
    struct ucred peer;
    char groups[256];
    size_t used;
    char *bytes;
};
static struct connection *connections[MAX_FD];
static struct { int fd, next; } leases[MAX_FD]; /* by number; fd 0: none; next of the same connection */
static int epoll, audit, sync_each, lease_count, connection_count;
static uint64_t seq;
static char prev[65] = "0000000000000000000000000000000000000000000000000000000000000000";

/* OpenSSL's SHA-256, which Node has too; libcrypto's headers are not needed for three functions. */
static int (*sha_init)(void *), (*sha_update)(void *, const void *, size_t), (*sha_final)(unsigned char *, void *);

/* Ends a line that has its members up to `prev`, and writes it. */
static void record(char *line, int length) {
    unsigned char digest[32];
    _Alignas(16) char context[256];
    static const char hex[] = "0123456789abcdef";
    length += sprintf(line + length, ",\"prev\":\"%s\"}", prev);
    sha_init(context);
    sha_update(context, line, (size_t)length);
    sha_final(digest, context);
    for (int i = 0; i < 32; i++)
        prev[2 * i] = hex[digest[i] >> 4], prev[2 * i + 1] = hex[digest[i] & 15];
    length += sprintf(line + length - 1, ",\"hash\":\"%s\"}\n", prev) - 1;
    if (write(audit, line, (size_t)length) != length || (sync_each && fdatasync(audit) < 0))
        die("audit");
}

/* Begins a line: number, time, what happened, to whom. */
static int begin(char *line, const char *event, const struct connection *c) {
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    return sprintf(line,
                   "{\"seq\":%lu,\"time\":\"%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ\",\"event\":\"%s\",\"peer\":{\"pid\":%d,"
                   "\"uid\":%u,\"gid\":%u,\"groups\":[%s]}",
                   ++seq, tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                   now.tv_nsec / 1000000, event, c->peer.pid, c->peer.uid, c->peer.gid, c->groups);
}

static void end_lease(int number, struct connection *c, const char *why) {
    char line[4096];
    int *at = &c->first;
    while (*at && *at != number)
        at = &leases[*at].next;
    *at = leases[number].next;
    close(leases[number].fd);
    leases[number].fd = 0;
    int n = begin(line, "lease-end", c);
    n += sprintf(line + n, ",\"rule\":\"bench\",\"reason\":\"%s\",\"lease\":\"%016x\"", why, (unsigned)number);
    record(line, n);
}

static void answer(int fd, const char *text, int length, int passed) {
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {(char *)text, (size_t)length};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (passed > 0) {
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &passed, sizeof(int));
    }
    if (sendmsg(fd, &message, MSG_NOSIGNAL) != length && errno != EPIPE && errno != ECONNRESET)
        die("sendmsg");
}

/* The number or text behind a member's name; the load always writes it. */
static const char *member(const char *line, const char *name) {
    const char *at = strstr(line, name);
    return at ? at + strlen(name) : "";
}

static int bind_socket(const char *address, int port) {
    int on = 1, off = 0, six = strchr(address, ':') != NULL;
    struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || inet_pton(six ? AF_INET6 : AF_INET, address, six ? (void *)&a6.sin6_addr : (void *)&a4.sin_addr) != 1 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        (six && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) < 0) ||
        bind(fd, six ? (void *)&a6 : (void *)&a4, six ? sizeof a6 : sizeof a4) < 0 || listen(fd, 511) < 0)
        die("bind");
    return fd;
}

static void serve_line(int fd, struct connection *c, char *line) {
    char text[4096], log[8192], address[64] = "";
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    const char *id = member(line, "\"id\":"), *method = member(line, "\"method\":\""), *params = member(line, "\"params\":");
    int id_length = (int)strspn(id, "0123456789"), method_length = (int)strcspn(method, "\"");
    int params_length = params[0] ? (int)(strcspn(params, "}") + 1) : 0, passed = -1, length, ends = 0;
    unsigned number = 0;
    if (strncmp(method, "bind", 4) == 0) {
        int port = atoi(member(params, "\"port\":"));
        const char *given = member(params, "\"address\":\"");
        memcpy(address, given[0] ? given : "::", given[0] ? strcspn(given, "\"") : 2);
        passed = bind_socket(address, port);
        do
            number = (unsigned)(lease_count = lease_count % (MAX_FD - 1) + 1);
        while (leases[number].fd);
        leases[number].fd = passed, leases[number].next = c->first, c->first = (int)number;
        length = sprintf(text,
                         "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"result\":{\"lease\":\"%016x\",\"protocol\":\"tcp\",\"address\":"
                         "\"%s\",\"port\":%d,\"resumed\":false,\"fds\":1}}\n",
                         id_length, id, number, address, port);
    } else if (strncmp(method, "release", 7) == 0) {
        number = (unsigned)strtoul(member(params, "\"lease\":\""), NULL, 16), ends = 1;
        length = sprintf(text, "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"result\":{\"released\":true}}\n", id_length, id);
    } else
        length = sprintf(text, "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"result\":{\"version\":\"C\",\"leases\":0}}\n", id_length, id);
    int n = begin(log, "call", c);
    n += sprintf(log + n, ",\"conn\":%d,\"method\":\"%.*s\",\"id\":%.*s,\"params\":%.*s,\"decision\":\"allow\"", c->number,
                 method_length, method, id_length, id, params_length, params);
    if (passed >= 0)
        n += sprintf(log + n, ",\"rule\":\"bench\"");
    if (number)
        n += sprintf(log + n, ",\"lease\":\"%016x\"", number);
    clock_gettime(CLOCK_MONOTONIC, &to);
    n += sprintf(log + n, ",\"durationUs\":%ld", (to.tv_sec - from.tv_sec) * 1000000 + (to.tv_nsec - from.tv_nsec) / 1000);
    record(log, n);
    if (ends)
        end_lease((int)number, c, "released");
    answer(fd, text, length, passed);
}

static void welcome(int listener) {
    gid_t groups[64];
    socklen_t length = sizeof(struct ucred), groups_size = sizeof groups;
    char line[4096];
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    struct connection *c = calloc(1, sizeof *c);
    if (fd >= MAX_FD || !c || !(c->bytes = malloc(LINE + 1)) ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c->peer, &length) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &groups_size) < 0)
        die("accept");
    for (size_t i = 0; i < groups_size / sizeof *groups && c->groups_length < 200; i++)
        c->groups_length += sprintf(c->groups + c->groups_length, "%s%u", i ? "," : "", groups[i]);
    c->number = ++connection_count;
    connections[fd] = c;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    int n = begin(line, "connect", c);
    record(line, n + sprintf(line + n, ",\"conn\":%d,\"decision\":\"allow\"", c->number));
}

static void leave(int fd, struct connection *c) {
    char line[4096];
    int n = begin(line, "disconnect", c);
    record(line, n + sprintf(line + n, ",\"conn\":%d,\"reason\":\"the peer closed it\"", c->number));
    while (c->first)
        end_lease(c->first, c, "its owner's connection closed");
    connections[fd] = NULL;
    close(fd);
    free(c->bytes);
    free(c);
}

static void serve(int fd, struct connection *c) {
    ssize_t got = recv(fd, c->bytes + c->used, LINE - c->used, 0);
    if (got <= 0) {
        leave(fd, c);
        return;
    }
    c->used += (size_t)got;
    c->bytes[c->used] = '\0';
    char *line = c->bytes, *end;
    for (; (end = memchr(line, '\n', (size_t)(c->bytes + c->used - line))) != NULL; line = end + 1) {
        *end = '\0';
        serve_line(fd, c, line);
    }
    c->used -= (size_t)(line - c->bytes);
    memmove(c->bytes, line, c->used);
}

int main(int argc, char **argv) {
    void *crypto = dlopen("libcrypto.so.3", RTLD_NOW);
    if (!crypto)
        crypto = dlopen("libcrypto.so.1.1", RTLD_NOW);
    if (argc != 4 || !crypto) {
        fprintf(stderr, argc == 4 ? "libcrypto is missing (Debian: libssl3)\n" : "reference SOCKET AUDIT write|fsync\n");
        return 64;
    }
    *(void **)&sha_init = dlsym(crypto, "SHA256_Init");
    *(void **)&sha_update = dlsym(crypto, "SHA256_Update");
    *(void **)&sha_final = dlsym(crypto, "SHA256_Final");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
    sync_each = strcmp(argv[3], "fsync") == 0;
    audit = open(argv[2], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event events[EVENTS], event = {.events = EPOLLIN, .data.fd = listener};
    if (audit < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || chmod(argv[1], 0666) < 0 ||
        listen(listener, 511) < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) < 0)
        die(argv[1]);
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener)
                welcome(fd);
            else if (connections[fd])
                serve(fd, connections[fd]);
        }
    }
}
