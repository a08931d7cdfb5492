/* How a process becomes another program and leaves a supervisor behind: a process that is no child of the program, a filter
 * that tells the supervisor of each bind(2), and execve in place, so that process id, parent, session, terminal and whatever
 * else the kernel keeps for a process are those that the program would have had without us.
 * The filter gives the program no right; no_new_privs, which an unprivileged filter takes, means that setuid programs gain
 * none either. */
#include "exec.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* From 424 on a call has the same number on every architecture; older headers lack the names. */
enum { PIDFD_OPEN = 434, CLOSE_RANGE = 436, RANGE_CLOEXEC = 4, CHANNEL_FD = 3 };

/* The strings of a buffer, each ended by a NUL, as execve takes them; NULL if there is no memory. They stay in the buffer. */
static char **split(uint8_t *bytes, size_t length) {
    size_t count = 0;
    for (size_t i = 0; i < length; i++)
        count += bytes[i] == 0;
    char **list = calloc(count + 1, sizeof *list);
    for (size_t i = 0, n = 0; list && n < count; i += strlen((char *)bytes + i) + 1)
        list[n++] = (char *)bytes + i;
    return list;
}

/* After fork in a process with threads: nothing but system calls. */
static void run_supervisor(char **argv, char **env, int channel) {
    sigset_t none;
    sigemptyset(&none);
    int null = open("/dev/null", O_RDWR);
    int moved = fcntl(channel, F_DUPFD, CHANNEL_FD + 1);
    for (int fd = 0; fd < CHANNEL_FD; fd++)
        dup2(null, fd);
    /* It must hold nothing of the program's: who waits for the end of a pipe waits for the program alone. */
    if (moved < 0 || dup2(moved, CHANNEL_FD) < 0 || chdir("/") < 0 || syscall(CLOSE_RANGE, CHANNEL_FD + 1, ~0U, 0) < 0)
        _exit(127);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(argv[0], argv, env);
    _exit(127);
}

/* startApart(argv, env) -> a Unix stream socket, whose other end is descriptor 3 of the process that was started. It is
 * nobody's child, so that no wait of this process ever finds it, and in a session of its own. */
napi_value start_apart(napi_env env, napi_callback_info info) {
    uint8_t *argv_bytes, *env_bytes;
    size_t argv_length, env_length;
    int pair[2], status;

    if (!get_args(env, info, "uu", &argv_bytes, &argv_length, &env_bytes, &env_length))
        return NULL;
    char **argv = split(argv_bytes, argv_length), **its_env = split(env_bytes, env_length);
    pid_t between = -1;
    int error = ENOMEM;
    if (argv && its_env) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0) {
            between = fork();
            if (between == 0) {
                setsid();
                pid_t pid = fork();
                if (pid == 0)
                    run_supervisor(argv, its_env, pair[1]);
                _exit(pid < 0);
            }
            error = errno;
            close(pair[1]);
            if (between < 0)
                close(pair[0]);
        } else
            error = errno;
    }
    free(argv), free(its_env);
    if (between < 0)
        return make_int(env, -error);
    while (waitpid(between, &status, 0) < 0 && errno == EINTR)
        ;
    if (status == 0)
        return make_int(env, pair[0]);
    close(pair[0]);
    return make_int(env, -EAGAIN);
}

/* trapBind() -> the listener of a filter on this thread: each bind(2) of it, and of all that it becomes and starts, waits for
 * an answer. -EBUSY if there is such a listener already. Calls of another architecture's table (32-bit programs) pass. */
napi_value trap_bind(napi_env env, napi_callback_info info) {
    (void)info;
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, THIS_ARCH, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_bind, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog list = {.len = sizeof program / sizeof *program, .filter = program};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return make_result(env, -1);
    /* WAIT_KILLABLE_RECV, Linux 5.19: once it is being answered, only a signal that kills interrupts the bind; before that every signal did. */
    unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | 1UL << 5;
    long fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &list);
    if (fd < 0 && errno == EINVAL)
        fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &list);
    return make_result(env, fd);
}

/* allowTracer(pid) -> 0. Where Yama restricts ptrace (ptrace_scope 1) that process may look into this one; -EINVAL without. */
napi_value allow_tracer(napi_env env, napi_callback_info info) {
    int32_t pid;
    return get_args(env, info, "i", &pid) ? make_result(env, prctl(PR_SET_PTRACER, (unsigned long)pid, 0, 0, 0)) : NULL;
}

/* openProcess(pid) -> a pidfd, which is readable when the process has ended. */
napi_value open_process(napi_env env, napi_callback_info info) {
    int32_t pid;
    return get_args(env, info, "i", &pid) ? make_result(env, syscall(PIDFD_OPEN, pid, 0)) : NULL;
}

static void inherit(int fd) {
    int flags = fcntl(fd, F_GETFD);
    if (flags >= 0)
        fcntl(fd, F_SETFD, flags & ~FD_CLOEXEC);
}

static bool has_signal(const int32_t *mask, int signal) {
    return (uint32_t)mask[(signal - 1) / 32] >> ((signal - 1) % 32) & 1;
}

/* A handler of Node's would become the default at exec anyway; what is ignored or blocked stays so. */
static void set_signals(const int32_t *ignored, const int32_t *blocked) {
    sigset_t mask;
    sigemptyset(&mask);
    for (int signal = 1; signal <= 64; signal++) {
        struct sigaction old, wanted = {.sa_handler = has_signal(ignored, signal) ? SIG_IGN : SIG_DFL};
        if (has_signal(blocked, signal))
            sigaddset(&mask, signal);
        /* 32 and 33 are glibc's own, which it refuses */
        if (sigaction(signal, NULL, &old) == 0 && old.sa_handler != wanted.sa_handler)
            sigaction(signal, &wanted, NULL);
    }
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
}

/* become(argv, env, sockets, kept, [ignored signals 1-32, 33-64, blocked, blocked, soft limit of descriptors or -1,
 * those of stdio that do not block, a bit each]) -> -errno, or never returns:
 * this process executes another program, found as execvp(3) does. It has `sockets` as its descriptors from 3 on, `kept` at
 * their numbers, and nothing else. After a failure descriptors from 3 on are no longer what they were: use leave(). */
napi_value become(napi_env env, napi_callback_info info) {
    uint8_t *argv_bytes, *env_bytes;
    size_t argv_length, env_length, socket_count, kept_count, state_length;
    int32_t *sockets, *kept, *state;
    struct rlimit limit;

    if (!get_args(env, info, "uunnn", &argv_bytes, &argv_length, &env_bytes, &env_length, &sockets, &socket_count, &kept,
                   &kept_count, &state, &state_length))
        return NULL;
    char **argv = split(argv_bytes, argv_length), **its_env = split(env_bytes, env_length);
    if (!argv || !its_env || !argv[0] || state_length != 6)
        return make_int(env, -EINVAL);
    syscall(CLOSE_RANGE, CHANNEL_FD, ~0U, RANGE_CLOEXEC); /* before Linux 5.11 Node's own care must do */
    for (int fd = 0; fd < 3; fd++) {
        int flags = fcntl(fd, F_GETFL), wanted = state[5] >> fd & 1 ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
        if (flags >= 0 && wanted != flags)
            fcntl(fd, F_SETFL, wanted);
        fcntl(fd, F_SETFD, FD_CLOEXEC); /* what was closed at the start is so again, if it is not kept */
    }
    for (size_t i = 0; i < kept_count; i++)
        inherit(kept[i]);
    /* First out of the way of each other. */
    for (size_t i = 0; i < socket_count; i++)
        if ((sockets[i] = fcntl(sockets[i], F_DUPFD_CLOEXEC, 3 + (int)socket_count)) < 0)
            return make_result(env, -1);
    for (size_t i = 0; i < socket_count; i++)
        if (dup2(sockets[i], 3 + (int)i) < 0)
            return make_result(env, -1);
    if (state[4] >= 0 && getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = (rlim_t)state[4];
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    set_signals(state, state + 2);
    execvpe(argv[0], argv, its_env);
    return make_result(env, -1);
}

/* leave(status): ends this process without Node's own end, which needs its descriptors. */
napi_value leave(napi_env env, napi_callback_info info) {
    int32_t status;
    if (get_args(env, info, "i", &status))
        _exit(status);
    return NULL;
}
