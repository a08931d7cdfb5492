/* A client of s6-fdholderd, which hands out descriptors that it was given before: it binds nothing and records nothing.
 *
 *   peer-fdholder SOCKET store PORT    binds a socket and leaves it there
 *   peer-fdholder SOCKET warm|cold     answers each number on its input with the nanoseconds of as many retrievals,
 *                                      on one connection, or each on its own */
#include "measure.h"

#include <arpa/inet.h>
#include <s6/fdholder.h>
#include <skalibs/tai.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ID "bench"

char const *PROG = "peer-fdholder";
static tain deadline;

static void connect_holder(s6_fdholder_t *holder, const char *path) {
    static const s6_fdholder_t none = S6_FDHOLDER_ZERO;
    *holder = none;
    if (!s6_fdholder_start_g(holder, path, &deadline))
        die("s6_fdholder_start");
}

static void store(s6_fdholder_t *holder, int port) {
    int on = 1, fd = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons((unsigned short)port)};
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 || bind(fd, (void *)&address, sizeof address) < 0 ||
        listen(fd, 511) < 0)
        die("bind");
    if (!s6_fdholder_store_g(holder, fd, ID, &tain_infinite, &deadline))
        die("s6_fdholder_store");
}

static void retrieve(s6_fdholder_t *holder, int *fd) {
    *fd = s6_fdholder_retrieve_g(holder, ID, &deadline);
    if (*fd < 0)
        die("s6_fdholder_retrieve");
}

static long warm(s6_fdholder_t *holder) {
    int fd;
    long from = now();
    retrieve(holder, &fd);
    long took = now() - from;
    close(fd);
    return took;
}

static long cold(const char *path) {
    s6_fdholder_t holder;
    int fd;
    long from = now();
    connect_holder(&holder, path);
    retrieve(&holder, &fd);
    long took = now() - from;
    close(fd);
    s6_fdholder_end(&holder);
    return took;
}

int main(int argc, char **argv) {
    char line[64];
    s6_fdholder_t holder;
    if (argc < 3)
        return 64;
    tain_now_g();
    tain_addsec_g(&deadline, 3600);
    int is_cold = strcmp(argv[2], "cold") == 0;
    if (!is_cold)
        connect_holder(&holder, argv[1]);
    if (strcmp(argv[2], "store") == 0 && argc > 3) {
        store(&holder, atoi(argv[3]));
        return 0;
    }
    while (fgets(line, sizeof line, stdin)) {
        for (long left = atol(line); left > 0; left--)
            printf("%ld%c", is_cold ? cold(argv[1]) : warm(&holder), left > 1 ? ' ' : '\n');
        fflush(stdout);
    }
    return 0;
}
