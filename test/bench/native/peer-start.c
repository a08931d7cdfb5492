/* Starts a program over and over, and prints the nanoseconds of each start, a line with all of them.
 *
 *   peer-start COUNT COMMAND...            from the start until the program says that it listens
 *   peer-start -c PORT COUNT COMMAND...    the command is one that listens for the program and starts it at its first
 *                                          connection: that is made as soon as the command has said that it listens
 *
 * The program says it by writing what CLOCK_MONOTONIC was then, in nanoseconds, to its stdout, so that it does not matter when
 * this process runs again. Stdout, because sudo closes all other descriptors. */
#include "measure.h"

#include <arpa/inet.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

/* Reads until `word` has come. @returns where it stands in what was read; NULL if the input ended before */
static char *wait_for(int fd, char *text, size_t size, const char *word) {
    size_t used = 0;
    for (ssize_t got; (got = read(fd, text + used, size - used - 1)) > 0;) {
        text[used += (size_t)got] = '\0';
        char *found = strstr(text, word);
        if (found)
            return found;
    }
    return NULL;
}

static long start(char **command, int port) {
    int out[2], err[2] = {-1, -1}, client = -1, status;
    char text[4096];
    pid_t pid;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    if (pipe(out) < 0 || (port && pipe(err) < 0))
        die("pipe");
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    posix_spawn_file_actions_addclose(&actions, out[0]);
    posix_spawn_file_actions_addclose(&actions, out[1]);
    if (port) {
        posix_spawn_file_actions_adddup2(&actions, err[1], 2);
        posix_spawn_file_actions_addclose(&actions, err[0]);
        posix_spawn_file_actions_addclose(&actions, err[1]);
    }
    long from = now();
    if (posix_spawnp(&pid, command[0], &actions, NULL, command, environ) != 0)
        die(command[0]);
    close(out[1]);
    if (port) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        close(err[1]);
        client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (!wait_for(err[0], text, sizeof text, "Listening on") || connect(client, (void *)&address, sizeof address) < 0)
            die("connect");
    }
    long to = wait_for(out[0], text, sizeof text, "\n") ? atol(text) : 0;
    waitpid(pid, &status, 0);
    if (to == 0 || status != 0) {
        fprintf(stderr, "%s did not listen: status %x\n", command[0], (unsigned)status);
        exit(1);
    }
    close(out[0]);
    if (port) {
        close(err[0]);
        close(client);
    }
    posix_spawn_file_actions_destroy(&actions);
    return to - from;
}

int main(int argc, char **argv) {
    int port = argc > 3 && strcmp(argv[1], "-c") == 0 ? atoi(argv[2]) : 0, at = port ? 3 : 1;
    if (argc < at + 2)
        return 64;
    for (long left = atol(argv[at]); left > 0; left--)
        printf("%ld%c", start(argv + at + 1, port), left > 1 ? ' ' : '\n');
    return 0;
}
