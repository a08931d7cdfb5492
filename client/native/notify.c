/* One bind(2) of the program that waits for an answer (seccomp_unotify(2)). A notice is the kernel's own struct, which the
 * caller keeps and gives back. Whatever is read of the program counts only if noticeIsValid() says so after it was read: until
 * then the thread could have died and its number could be another's. */
#include "exec.h"

#include <linux/seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PIDFD_OPEN = 434, PIDFD_GETFD = 438, PIDFD_THREAD = 0200 };

/* The kernel's ADDFD (Linux 5.9), which older headers lack. */
struct addfd {
    uint64_t id;
    uint32_t flags, srcfd, newfd, newfd_flags;
};
#define ADDFD _IOW('!', 3, struct addfd)

struct call {
    int32_t listener, numbers[3];
    struct seccomp_notif *notice;
    napi_value failed;
};

static struct seccomp_notif *as_notice(uint8_t *bytes, size_t length) {
    return length == sizeof(struct seccomp_notif) && (uintptr_t)bytes % 8 == 0 ? (struct seccomp_notif *)(void *)bytes : NULL;
}

/* Arguments that begin with a listener and a notice, then up to three numbers: "iu", "iui" ... If not, `failed` is what the
 * method gives. */
static bool get_call(napi_env env, napi_callback_info info, const char *format, struct call *call) {
    uint8_t *bytes;
    size_t length;
    int32_t *numbers = call->numbers;
    call->failed = NULL;
    if (!get_args(env, info, format, &call->listener, &bytes, &length, &numbers[0], &numbers[1], &numbers[2]))
        return false;
    call->notice = as_notice(bytes, length);
    if (!call->notice)
        call->failed = make_int(env, -EINVAL);
    return call->notice != NULL;
}

/* receiveNotice(listener, notice) -> 0. To be called when the listener is readable; -ENOENT if who called has died since. */
napi_value receive_notice(napi_env env, napi_callback_info info) {
    struct call call;
    if (!get_call(env, info, "iu", &call))
        return call.failed;
    memset(call.notice, 0, sizeof *call.notice);
    return make_result(env, ioctl(call.listener, SECCOMP_IOCTL_NOTIF_RECV, call.notice));
}

/* noticeIsValid(listener, notice) -> 0 while its thread waits. */
napi_value notice_is_valid(napi_env env, napi_callback_info info) {
    struct call call;
    if (!get_call(env, info, "iu", &call))
        return call.failed;
    return make_result(env, ioctl(call.listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &call.notice->id));
}

/* readAddress(notice, out) -> count: a copy of the address that bind was given, as long as it was said to be. */
napi_value read_address(napi_env env, napi_callback_info info) {
    uint8_t *bytes, *out;
    size_t length, out_length;
    if (!get_args(env, info, "uu", &bytes, &length, &out, &out_length))
        return NULL;
    struct seccomp_notif *notice = as_notice(bytes, length);
    int wanted = notice ? (int)notice->data.args[2] : -1; /* the kernel takes an int, too */
    if (wanted < 0)
        return make_int(env, -EINVAL);
    struct iovec here = {out, (size_t)wanted < out_length ? (size_t)wanted : out_length};
    struct iovec there = {(void *)(uintptr_t)notice->data.args[1], here.iov_len};
    return make_result(env, process_vm_readv((pid_t)notice->pid, &here, 1, &there, 1, 0));
}

/* takeFd(thread, process, number) -> a descriptor here of what the thread has at that number. Before Linux 6.9 its process is
 * asked, whose table can be another: the caller compares. */
napi_value take_fd(napi_env env, napi_callback_info info) {
    int32_t thread, process, number;
    if (!get_args(env, info, "iii", &thread, &process, &number))
        return NULL;
    int pidfd = (int)syscall(PIDFD_OPEN, thread, PIDFD_THREAD);
    if (pidfd < 0 && errno == EINVAL)
        pidfd = (int)syscall(PIDFD_OPEN, process, 0);
    if (pidfd < 0)
        return make_result(env, -1);
    long fd = syscall(PIDFD_GETFD, pidfd, number, 0);
    int error = errno;
    close(pidfd);
    errno = error;
    return make_result(env, fd);
}

/* placeFd(listener, notice, fd, number, closeOnExec) -> number: the program has `fd` at `number`, in place of what was there. */
napi_value place_fd(napi_env env, napi_callback_info info) {
    struct call call;
    if (!get_call(env, info, "iuiii", &call))
        return call.failed;
    struct addfd place = {.id = call.notice->id,
                          .flags = 1 /* SETFD */,
                          .srcfd = (uint32_t)call.numbers[0],
                          .newfd = (uint32_t)call.numbers[1],
                          .newfd_flags = call.numbers[2] ? 02000000 /* O_CLOEXEC */ : 0};
    return make_result(env, ioctl(call.listener, ADDFD, &place));
}

/* answerNotice(listener, notice, error) -> 0. bind gives 0 (an error of 0) or -1 with that errno; below 0: the kernel goes on
 * with the call as if it had never been trapped, reading its arguments anew. */
napi_value answer_notice(napi_env env, napi_callback_info info) {
    struct call call;
    if (!get_call(env, info, "iui", &call))
        return call.failed;
    int32_t error = call.numbers[0];
    struct seccomp_notif_resp answer = {.id = call.notice->id,
                                        .error = error > 0 ? -error : 0,
                                        .flags = error < 0 ? SECCOMP_USER_NOTIF_FLAG_CONTINUE : 0};
    return make_result(env, ioctl(call.listener, SECCOMP_IOCTL_NOTIF_SEND, &answer));
}
