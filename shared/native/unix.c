/* The control socket (AF_UNIX, SOCK_STREAM): who is at the other end, and bytes with descriptors in both directions. */
#include "addon.h"

#include <limits.h> /* NGROUPS_MAX */
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* openUnix(path, backlog) -> fd, connected to `path`, or with a backlog above 0 bound to it and listening; below 0 a datagram
 * socket (sd_notify(3)). A leading @ is the abstract namespace (unix(7)). Never blocks: -EAGAIN when the queue there is full. */
napi_value open_unix(napi_env env, napi_callback_info info) {
    int32_t backlog;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct sockaddr *name = (struct sockaddr *)&address;
    if (!get_args(env, info, "si", address.sun_path, sizeof address.sun_path, &backlog))
        return NULL;
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(address.sun_path));
    if (address.sun_path[0] == '@')
        address.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, (backlog < 0 ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && (backlog > 0 ? bind(fd, name, length) < 0 || listen(fd, backlog) < 0 : connect(fd, name, length) < 0)) {
        int error = errno;
        close(fd);
        return make_int(env, -error);
    }
    return make_result(env, fd);
}

/* acceptUnix(fd) -> fd of the new connection, with a small send buffer: what a peer does not read pins its descriptors, and
 * the kernel counts those of all peers against the helper (ETOOMANYREFS, unix(7)). */
static int narrow(int fd) {
    int bytes = 8192; /* doubled by the kernel; a reply with a socket takes about 1 KiB of that */
    return fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) == 0 ? fd : -1;
}
FD_METHOD(accept_unix, narrow(accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)))

/* peerCredentials(fd, out) -> count; in `out` pid, uid, gid and then as many supplementary groups as fit, as they were at
 * connect() (unix(7)). Asking the kernel about the socket, and never about the pid: a pid may by now be another program, or
 * the same one after exec of a setuid file (CVE-2014-0181, CVE-2021-3560). */
napi_value peer_credentials(napi_env env, napi_callback_info info) {
    int32_t fd, *out;
    struct ucred peer;
    gid_t groups[NGROUPS_MAX];
    socklen_t length = sizeof peer, groups_length = sizeof groups;
    size_t room;

    if (!get_args(env, info, "in", &fd, &out, &room))
        return NULL;
    if (room < 3)
        return make_int(env, -EINVAL);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &groups_length) < 0)
        return make_result(env, -1);
    size_t count = groups_length / sizeof *groups < room - 3 ? groups_length / sizeof *groups : room - 3;
    memcpy(out, &peer, sizeof peer); /* pid, uid, gid (unix(7)) */
    memcpy(out + 3, groups, count * sizeof *groups);
    return make_int(env, (int64_t)count + 3);
}

/* receive(fd, bytes) -> count; 0 at the end. Gives the kernel no room for control data, so descriptors that the peer
 * sends are closed by the kernel and never reach this process. */
napi_value receive_bytes(napi_env env, napi_callback_info info) {
    int32_t fd;
    uint8_t *data;
    size_t length;
    return get_args(env, info, "iu", &fd, &data, &length) ? make_result(env, recv(fd, data, length, MSG_DONTWAIT)) : NULL;
}

/* send(fd, bytes, fds, fdCount) -> count of bytes sent. The descriptors travel on the first byte, so they are gone as
 * soon as the result is above 0. */
napi_value send_with_fds(napi_env env, napi_callback_info info) {
    int32_t fd, *fds, fd_count;
    uint8_t *data;
    size_t length, fds_length;
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int) * MAX_FDS)];

    if (!get_args(env, info, "iuni", &fd, &data, &length, &fds, &fds_length, &fd_count))
        return NULL;
    if (fd_count < 0 || (size_t)fd_count > fds_length || fd_count > MAX_FDS)
        return make_int(env, -EINVAL);
    struct iovec part = {.iov_base = data, .iov_len = length};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd_count > 0) {
        size_t size = sizeof(int) * (size_t)fd_count;
        message.msg_control = memset(control, 0, CMSG_SPACE(size));
        message.msg_controllen = CMSG_SPACE(size);
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        *c = (struct cmsghdr){.cmsg_len = CMSG_LEN(size), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(c), fds, size);
    }
    return make_result(env, sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL));
}
