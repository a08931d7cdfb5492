/* Requests over kept-alive HTTP connections in a closed loop: each connection has one request under way at a time.
 *
 *   peer-http-load CONNECTIONS
 *
 * Each line "PORT MS" on its input is answered with how many requests the server at 127.0.0.1:PORT answered in that
 * time. Connections to a port are opened once and kept. A server that closes one, or answers anything but 200, is
 * an error: it would not be the comparison that was meant. */
#include "measure.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 256, MAX_SERVERS = 8 };
static const char REQUEST[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

struct connection {
    int fd;
    size_t used;
    char text[4096];
};
static struct server {
    int port, epoll;
    struct connection connections[MAX_CONNECTIONS];
} servers[MAX_SERVERS];

static struct server *server_at(int port, int count) {
    struct server *s = servers;
    while (s->port && s->port != port)
        if (++s == servers + MAX_SERVERS)
            exit(64);
    if (s->port)
        return s;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    s->port = port;
    s->epoll = epoll_create1(0);
    for (int i = 0; i < count; i++) {
        struct connection *c = &s->connections[i];
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(c->fd, (void *)&address, sizeof address) < 0 || epoll_ctl(s->epoll, EPOLL_CTL_ADD, c->fd, &event) < 0)
            die("connect");
    }
    return s;
}

static void ask(struct connection *c) {
    c->used = 0;
    if (send(c->fd, REQUEST, sizeof REQUEST - 1, MSG_NOSIGNAL) != sizeof REQUEST - 1)
        die("send");
}

/* Takes what has come. @returns whether the response is whole */
static int take(struct connection *c) {
    ssize_t got = recv(c->fd, c->text + c->used, sizeof c->text - c->used - 1, 0);
    if (got <= 0)
        die("the server closed a connection");
    c->text[c->used += (size_t)got] = '\0';
    const char *body = strstr(c->text, "\r\n\r\n"), *length = strcasestr(c->text, "\r\nContent-Length: ");
    if (!body)
        return 0;
    if (strncmp(c->text, "HTTP/1.1 200 ", 13) != 0 || !length) {
        fprintf(stderr, "the server said: %s\n", c->text);
        exit(1);
    }
    return c->used >= (size_t)(body + 4 - c->text) + (size_t)atol(length + 18);
}

static long measure(struct server *s, int count, long ms) {
    struct epoll_event events[MAX_CONNECTIONS];
    long answered = 0, end = now() + ms * 1000000, open = count;
    for (int i = 0; i < count; i++)
        ask(&s->connections[i]);
    while (open > 0) {
        int ready = epoll_wait(s->epoll, events, MAX_CONNECTIONS, -1), more = now() < end;
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (!take(c))
                continue;
            answered++;
            if (more)
                ask(c);
            else
                open--;
        }
    }
    return answered;
}

int main(int argc, char **argv) {
    int port, count = argc > 1 ? atoi(argv[1]) : 0;
    long ms;
    if (count < 1 || count > MAX_CONNECTIONS)
        return 64;
    while (scanf("%d %ld", &port, &ms) == 2) {
        printf("%ld\n", measure(server_at(port, count), count, ms));
        fflush(stdout);
    }
    return 0;
}
