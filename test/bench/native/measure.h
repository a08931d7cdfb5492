/* What the programs of the bench share. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline void die(const char *what) {
    perror(what);
    exit(1);
}

/* Nanoseconds of CLOCK_MONOTONIC. */
static inline long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}
