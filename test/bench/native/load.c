/* The load: a client of lowport's protocol that costs next to nothing itself, so that what is measured is the helper.
 *
 *   load SOCKET warm COUNT             prints the nanoseconds of each of COUNT grants on one connection, a line each
 *   load SOCKET connect COUNT          the same, each on a new connection, from connect() to the socket's arrival
 *   load SOCKET paced COUNT MS         as warm, one every MS milliseconds
 *   load SOCKET ask COUNT MS           `check`s instead of grants, one every MS milliseconds, the first right after connect()
 *   load SOCKET pipelined CONNECTIONS COUNT
 *                                      grants per second: 16 requests at once on each connection
 *   load SOCKET idle CONNECTIONS       opens them, says "ready", and keeps them until its input ends
 *   load SOCKET hold LEASES            asks for that many sockets, says "ready", and keeps them until its input ends
 *
 * Releases, and what the helper does after a connection was closed, are never part of what is timed. */
#include "measure.h"

#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { FIRST_PORT = 700, AT_ONCE = 16, MAX_CONNECTIONS = 1024, LEASES_AN_ADDRESS = 600 };

static struct sockaddr_un address = {.sun_family = AF_UNIX};
static long next_id;

static int connect_helper(void) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        die("connect");
    return fd;
}

static int write_bind(char *text, const char *host, int port) {
    return sprintf(text,
                   "{\"jsonrpc\":\"2.0\",\"id\":%ld,\"method\":\"bind\",\"params\":{\"protocol\":\"tcp\",\"port\":%d%s%s%s}}\n",
                   ++next_id, port, host ? ",\"address\":\"" : "", host ? host : "", host ? "\"" : "");
}

static int write_release(char *text, const char *lease) {
    return sprintf(text, "{\"jsonrpc\":\"2.0\",\"id\":%ld,\"method\":\"release\",\"params\":{\"lease\":\"%.16s\"}}\n", ++next_id,
                   lease);
}

static void say(int fd, const char *text, int length) {
    if (send(fd, text, (size_t)length, MSG_NOSIGNAL) != length)
        die("send");
}

/* What has come of `lines` replies, and the descriptors that came with them, which are closed. */
struct replies {
    char text[32768];
    size_t used;
    int lines, passed;
};

static void take(int fd, struct replies *r) {
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * 253)];
    struct iovec part = {r->text + r->used, sizeof r->text - r->used - 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    if (got <= 0)
        die("the helper has gone");
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        int fds[253], count = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(c), (size_t)count * sizeof(int));
        for (int i = 0; i < count; i++, r->passed++)
            close(fds[i]);
    }
    for (ssize_t i = 0; i < got; i++)
        r->lines += r->text[r->used + (size_t)i] == '\n';
    r->used += (size_t)got;
    r->text[r->used] = '\0';
}

/* Takes one reply; it must be a result. @returns its text */
static const char *reply(int fd, int passed) {
    static struct replies r;
    r.used = 0, r.lines = 0, r.passed = 0;
    while (r.lines < 1)
        take(fd, &r);
    if (r.passed != passed || !strstr(r.text, "\"result\"")) {
        fprintf(stderr, "the helper says: %s", r.text);
        exit(1);
    }
    return r.text;
}

static void lease_of(const char *text, char lease[17]) {
    const char *at = strstr(text, "\"lease\":\"");
    memcpy(lease, at ? at + 9 : "0000000000000000", 16);
    lease[16] = '\0';
}

static void sleep_ms(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* One grant. @returns its nanoseconds */
static long grant(int fd, int port, char lease[17]) {
    char text[256];
    int length = write_bind(text, NULL, port);
    long from = now();
    say(fd, text, length);
    const char *answered = reply(fd, 1);
    long took = now() - from;
    lease_of(answered, lease);
    return took;
}

static void release(int fd, const char *lease) {
    char text[256];
    say(fd, text, write_release(text, lease));
    reply(fd, 0);
}

static void warm(long count, long gap_ms) {
    int fd = connect_helper();
    char lease[17];
    for (long i = 0; i < count; i++) {
        if (gap_ms)
            sleep_ms(gap_ms);
        printf("%ld\n", grant(fd, FIRST_PORT, lease));
        release(fd, lease);
    }
}

static void connect_each(long count) {
    int fds[AT_ONCE], control = connect_helper();
    char lease[17], text[128];
    for (long i = 0; i < count; i += AT_ONCE) {
        for (int k = 0; k < AT_ONCE; k++) {
            long from = now();
            fds[k] = connect_helper();
            grant(fds[k], FIRST_PORT + k, lease);
            printf("%ld\n", now() - from);
        }
        for (int k = 0; k < AT_ONCE; k++)
            close(fds[k]);
        say(control, text, sprintf(text, "{\"jsonrpc\":\"2.0\",\"id\":%ld,\"method\":\"status\"}\n", ++next_id));
        reply(control, 0); /* it has dealt with those that are gone */
        sleep_ms(1);
    }
}

static void ask(long count, long gap_ms) {
    char text[256];
    int fd = connect_helper();
    for (long i = 0; i < count; i++) {
        int length = sprintf(text,
                             "{\"jsonrpc\":\"2.0\",\"id\":%ld,\"method\":\"check\",\"params\":{\"protocol\":\"tcp\",\"port\":%d}}\n",
                             ++next_id, FIRST_PORT);
        long from = now();
        say(fd, text, length);
        reply(fd, 0);
        printf("%ld\n", now() - from);
        sleep_ms(gap_ms);
    }
}

/* Takes replies until each connection has AT_ONCE of them. */
static void take_all(int connections, const struct pollfd *connected, struct replies *r) {
    struct pollfd polled[MAX_CONNECTIONS];
    int missing = connections;
    memcpy(polled, connected, (size_t)connections * sizeof *polled);
    for (int i = 0; i < connections; i++)
        r[i].used = 0, r[i].lines = 0, r[i].passed = 0;
    while (missing > 0) {
        if (poll(polled, (nfds_t)connections, -1) < 0)
            die("poll");
        for (int i = 0; i < connections; i++) {
            if (polled[i].fd < 0 || !polled[i].revents)
                continue;
            take(polled[i].fd, &r[i]);
            if (r[i].lines == AT_ONCE)
                polled[i].fd = -1, missing--; /* poll(2) leaves it out */
        }
    }
}

static void pipelined(int connections, long count) {
    static struct replies r[MAX_CONNECTIONS];
    struct pollfd connected[MAX_CONNECTIONS];
    char text[AT_ONCE * 256], lease[17];
    long took = 0, granted = 0;
    for (int i = 0; i < connections; i++)
        connected[i] = (struct pollfd){.fd = connect_helper(), .events = POLLIN};
    while (granted < count) {
        long from = now();
        for (int i = 0; i < connections; i++) {
            int length = 0;
            for (int k = 0; k < AT_ONCE; k++)
                length += write_bind(text + length, NULL, FIRST_PORT + i * AT_ONCE + k);
            say(connected[i].fd, text, length);
        }
        take_all(connections, connected, r);
        took += now() - from;
        granted += connections * AT_ONCE;
        for (int i = 0; i < connections; i++) {
            char *at = r[i].text;
            int length = 0;
            if (r[i].passed != AT_ONCE) {
                fprintf(stderr, "a socket is missing: %s", r[i].text);
                exit(1);
            }
            for (int k = 0; k < AT_ONCE; k++, at = strchr(at, '\n') + 1) {
                lease_of(at, lease);
                length += write_release(text + length, lease);
            }
            say(connected[i].fd, text, length);
        }
        take_all(connections, connected, r);
    }
    printf("%.0f\n", (double)granted * 1e9 / (double)took);
}

static void wait_for_the_end(void) {
    char byte;
    printf("ready\n");
    fflush(stdout);
    while (read(0, &byte, 1) > 0)
        ;
}

static void idle(int connections) {
    for (int i = 0; i < connections; i++)
        connect_helper();
    wait_for_the_end();
}

static void hold(int leases) {
    int fd = connect_helper();
    char text[256], host[32];
    for (int i = 0; i < leases; i++) {
        sprintf(host, "127.0.%d.1", 1 + i / LEASES_AN_ADDRESS);
        say(fd, text, write_bind(text, host, 1 + i % LEASES_AN_ADDRESS));
        reply(fd, 1);
    }
    wait_for_the_end();
}

int main(int argc, char **argv) {
    if (argc < 4)
        return 64;
    struct rlimit files = {MAX_CONNECTIONS + 64, MAX_CONNECTIONS + 64};
    setrlimit(RLIMIT_NOFILE, &files);
    strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
    const char *mode = argv[2];
    long first = atol(argv[3]), second = argc > 4 ? atol(argv[4]) : 0;
    if (strcmp(mode, "warm") == 0)
        warm(first, 0);
    else if (strcmp(mode, "connect") == 0)
        connect_each(first);
    else if (strcmp(mode, "paced") == 0)
        warm(first, second);
    else if (strcmp(mode, "ask") == 0)
        ask(first, second);
    else if (strcmp(mode, "pipelined") == 0 && first <= MAX_CONNECTIONS)
        pipelined((int)first, second);
    else if (strcmp(mode, "idle") == 0)
        idle((int)first);
    else if (strcmp(mode, "hold") == 0)
        hold((int)first);
    else
        return 64;
    return 0;
}
