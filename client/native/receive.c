/* What comes with descriptors: to the app, and to what `lowport exec` has started. */
#include "exec.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* receiveWithFds(fd, bytes, fds) -> count of bytes; fds[0] is the count of descriptors, which follow from fds[1].
 * -EMFILE if the kernel could not hand over all of them (MSG_CTRUNC); those that came are closed. */
napi_value receive_with_fds(napi_env env, napi_callback_info info) {
    int32_t fd, *fds;
    uint8_t *data;
    size_t length, fds_length, count = 0;
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int) * MAX_FDS)];

    if (!get_args(env, info, "iun", &fd, &data, &length, &fds, &fds_length))
        return NULL;
    if (fds_length < MAX_FDS + 1)
        return make_int(env, -EINVAL);
    struct iovec part = {.iov_base = data, .iov_len = length};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0)
        return make_result(env, -1);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t size = c->cmsg_len - CMSG_LEN(0); /* in all never above MAX_FDS: `control` holds no more */
        memcpy(fds + 1 + count, CMSG_DATA(c), size);
        count += size / sizeof(int);
    }
    if (message.msg_flags & MSG_CTRUNC) {
        for (size_t i = 1; i <= count; i++)
            close(fds[i]);
        return make_int(env, -EMFILE);
    }
    fds[0] = (int32_t)count;
    return make_int(env, got);
}
