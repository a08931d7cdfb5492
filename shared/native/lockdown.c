/* The one place where this program changes ids, capabilities or its own system call surface.
 *
 * Capabilities, no_new_privs and seccomp belong to a thread, and Node has about eleven before our first line runs:
 *   - set*id() goes through glibc, which applies it to all threads; KEEPCAPS is on for the calling thread alone, so all
 *     others lose every capability and this one (which binds) keeps CAP_NET_BIND_SERVICE;
 *   - the seccomp filter is installed with TSYNC, which brings it and no_new_privs to all threads.
 * What stays: the other threads' bounding sets, worth nothing under no_new_privs and without execve (SECURITY.md).
 */
#include "addon.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What a helper that only binds sockets never needs. A list of what is forbidden and not of what is allowed, because
 * the latter changes with every Node; the systemd unit adds an allow list. */
static const int forbidden[] = {
    /* run or control other programs */
    SYS_execve, SYS_execveat, SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_kcmp,
    /* mounts and namespaces */
    SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_unshare, SYS_setns, SYS_swapon, SYS_swapoff, SYS_quotactl,
    SYS_name_to_handle_at, SYS_open_by_handle_at, SYS_fanotify_init,
    /* the kernel itself */
    SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load, SYS_bpf, SYS_perf_event_open, SYS_userfaultfd,
    SYS_reboot, SYS_syslog, SYS_acct, SYS_personality, SYS_settimeofday, SYS_clock_settime, SYS_adjtimex,
    SYS_sethostname, SYS_setdomainname, SYS_mbind, SYS_migrate_pages, SYS_move_pages,
    /* keyrings */
    SYS_add_key, SYS_request_key, SYS_keyctl,
    /* From 424 on a call has the same number on every architecture; older headers lack the names. io_uring_setup,
     * _enter, _register; open_tree, move_mount, fsopen, fsconfig, fsmount, fspick; pidfd_getfd, process_madvise,
     * mount_setattr, quotactl_fd, process_mrelease */
    425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 440, 442, 443, 448,
#ifdef __x86_64__
    SYS_fork, SYS_vfork, SYS_iopl, SYS_ioperm, SYS_modify_ldt, SYS_uselib, SYS_kexec_file_load,
#endif
};
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IF_EQUAL(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), yes, no)
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, value)
#define DENY RETURN(SECCOMP_RET_ERRNO | EPERM)
#define COUNT(array) (sizeof(array) / sizeof *(array))

static int install(struct sock_filter *program, size_t length, unsigned flags) {
    struct sock_fprog list = {.len = (unsigned short)length, .filter = program};
    /* above 0: the id of a thread that could not be brought along */
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &list) == 0 ? 0 : -1;
}

static int install_filter(void) {
    /* args[] are 64 bits wide; their low halves come first on the little-endian machines above. */
    static const struct sock_filter head[] = {
        LOAD(arch), IF_EQUAL(THIS_ARCH, 1, 0), RETURN(SECCOMP_RET_KILL_PROCESS),
        LOAD(nr),
#ifdef __x86_64__
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1), RETURN(SECCOMP_RET_KILL_PROCESS), /* the x32 table */
#endif
        /* clone3 hides its flags in memory: ENOSYS makes glibc use clone */
        IF_EQUAL(435, 0, 1), RETURN(SECCOMP_RET_ERRNO | ENOSYS),
        /* clone makes threads and nothing else; CLONE_NEWTIME shares its bits with the signal number, but is clone3's */
        IF_EQUAL(SYS_clone, 0, 5), LOAD(args[0]),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K,
                 CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET,
                 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 0, 1), RETURN(SECCOMP_RET_ALLOW), DENY,
        /* sockets of these families and no others */
        IF_EQUAL(SYS_socket, 0, 6), LOAD(args[0]), IF_EQUAL(AF_UNIX, 3, 0), IF_EQUAL(AF_INET, 2, 0),
        IF_EQUAL(AF_INET6, 1, 0), DENY, RETURN(SECCOMP_RET_ALLOW),
    };
    struct sock_filter program[COUNT(head) + 2 * COUNT(forbidden) + 1];
    size_t n = COUNT(head);
    memcpy(program, head, sizeof head);
    for (size_t i = 0; i < COUNT(forbidden); i++) {
        program[n++] = (struct sock_filter)IF_EQUAL(forbidden[i], 0, 1);
        program[n++] = (struct sock_filter)DENY;
    }
    program[n++] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
    return install(program, n, SECCOMP_FILTER_FLAG_TSYNC);
}

/* forbidIoUring(fds) -> 0. For the program that this process executes next: its io_uring_setup (425) says ENOSYS. From 22 on
 * Node's event loop keeps io_uring rings, made before our first line runs, and aborts where their use is forbidden
 * afterwards; denied from the start it takes epoll. `fds` it gets too: Node has made them close-on-exec. */
napi_value forbid_io_uring(napi_env env, napi_callback_info info) {
    int32_t *fds;
    size_t count = 0;
    struct sock_filter program[] = {LOAD(nr), IF_EQUAL(425, 0, 1), RETURN(SECCOMP_RET_ERRNO | ENOSYS), RETURN(SECCOMP_RET_ALLOW)};
    if (!get_args(env, info, "n", &fds, &count))
        return NULL;
    while (count > 0)
        fcntl(fds[--count], F_SETFD, 0);
    return make_result(env, prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -1 : install(program, COUNT(program), 0));
}

/* CAP_NET_BIND_SERVICE and nothing else, in this thread; not inheritable, so that nothing can pass it on. */
static int keep_one_capability(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct data[2] = {{0}, {0}};
    data[0].effective = data[0].permitted = 1u << CAP_NET_BIND_SERVICE;
    return (int)syscall(SYS_capset, &header, data);
}

static int drop_bounding_set(void) {
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        if (cap != CAP_NET_BIND_SERVICE && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return -1;
    return 0;
}

/* lockDown(uid, gid, asRoot): for ever, and in this order. asRoot false is the start by an init that has set the ids and
 * left us CAP_NET_BIND_SERVICE alone: ids and capabilities are done, the rest is not. Throws naming the step. */
napi_value lock_down(napi_env env, napi_callback_info info) {
    int32_t uid32, gid32;
    bool as_root;
    const char *failed = NULL;
#define STEP(call) if (!failed && (call) < 0) failed = #call

    if (!get_args(env, info, "iib", &uid32, &gid32, &as_root))
        return NULL;
    uid_t uid = (uid_t)uid32;
    gid_t gid = (gid_t)gid32;
    errno = EINVAL;
    STEP(uid32 > 0 && gid32 > 0 ? 0 : -1);
    if (as_root) {
        STEP(drop_bounding_set());
        STEP(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));
        STEP(setgroups(0, NULL));
        STEP(setresgid(gid, gid, gid));
        STEP(setresuid(uid, uid, uid));
        STEP(keep_one_capability());
        STEP(prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0));
    }
    STEP(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
    STEP(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
    STEP(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    STEP(install_filter());
    if (failed) {
        char message[256];
        snprintf(message, sizeof message, "%s: %s", failed, strerror(errno));
        napi_throw_error(env, "ERR_LOWPORT_LOCKDOWN", message);
    }
    return NULL;
}
