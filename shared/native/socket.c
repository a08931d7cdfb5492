/* Internet sockets: made, described and taken back. Every descriptor is made close-on-exec and non-blocking. */
#include "addon.h"

#include <arpa/inet.h>
#include <limits.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

static socklen_t parse_address(const char *text, uint16_t port, struct sockaddr_storage *out) {
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    bool inet6 = strchr(text, ':') != NULL;
    memset(out, 0, sizeof *out);
    out->ss_family = inet6 ? AF_INET6 : AF_INET;
    *(inet6 ? &v6->sin6_port : &v4->sin_port) = htons(port);
    int fits = inet_pton(out->ss_family, text, inet6 ? (void *)&v6->sin6_addr : (void *)&v4->sin_addr);
    return fits != 1 ? 0 : inet6 ? sizeof *v6 : sizeof *v4;
}

static int set_option(int fd, int level, int name, int value) {
    return setsockopt(fd, level, name, &value, sizeof value);
}

/* SO_REUSEADDR is set for TCP (a restart past TIME_WAIT) and never for UDP, where it would let a second socket of this
 * process take over the first one's datagrams. It is safe for TCP only because nothing runs between bind and listen; a
 * socket that does not listen goes without, and so is refused beside any other, listening or not. */
static int prepare(int fd, const struct sockaddr_storage *address, socklen_t length, bool stream, bool v6only,
                   bool reuse_port, int backlog) {
    if ((stream && backlog > 0 && set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) < 0) ||
        (reuse_port && set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1) < 0) ||
        (address->ss_family == AF_INET6 && set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, v6only) < 0) ||
        bind(fd, (const struct sockaddr *)address, length) < 0)
        return -1;
    return stream && backlog > 0 ? listen(fd, backlog) : 0;
}

/* bindSocket(stream, address, port, ipv6Only, reusePort, backlog) -> fd. A backlog of 0 does not listen. */
napi_value bind_socket(napi_env env, napi_callback_info info) {
    bool stream, v6only, reuse_port;
    char text[INET6_ADDRSTRLEN];
    int32_t port, backlog;
    struct sockaddr_storage address;

    if (!get_args(env, info, "bsibbi", &stream, text, sizeof text, &port, &v6only, &reuse_port, &backlog))
        return NULL;
    socklen_t length = port < 0 || port > UINT16_MAX ? 0 : parse_address(text, (uint16_t)port, &address);
    if (length == 0)
        return make_int(env, -EINVAL);
    int fd = socket(address.ss_family, (stream ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && prepare(fd, &address, length, stream, v6only, reuse_port, backlog) < 0) {
        int error = errno;
        close(fd);
        return make_int(env, -error);
    }
    return make_result(env, fd);
}

/* socketInfo(fd) -> [stream: 0|1, listening: 0|1, port, address, ipv6Only: 0|1], or -errno; -EAFNOSUPPORT if not TCP/UDP. */
napi_value socket_info(napi_env env, napi_callback_info info) {
    napi_value out;
    int32_t fd;
    int type = 0, listening = 0, v6only = 0;
    char text[INET6_ADDRSTRLEN] = "";
    struct sockaddr_storage address = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address;
    socklen_t length = sizeof address, int_length = sizeof type;

    if (!get_args(env, info, "i", &fd))
        return NULL;
    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &int_length) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &int_length) < 0)
        return make_result(env, -1);
    bool inet6 = address.ss_family == AF_INET6;
    if ((!inet6 && address.ss_family != AF_INET) || (type != SOCK_STREAM && type != SOCK_DGRAM))
        return make_int(env, -EAFNOSUPPORT);
    getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, &int_length); /* stays 0 where it is IPv4 */
    inet_ntop(address.ss_family, inet6 ? (void *)&v6->sin6_addr : (void *)&v4->sin_addr, text, sizeof text);
    napi_value items[] = {make_int(env, type == SOCK_STREAM), make_int(env, listening != 0),
                          make_int(env, ntohs(inet6 ? v6->sin6_port : v4->sin_port)), NULL, make_int(env, v6only != 0)};
    if (napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &items[3]) != napi_ok ||
        napi_create_array(env, &out) != napi_ok)
        return NULL;
    for (uint32_t i = 0; i < sizeof items / sizeof *items; i++)
        napi_set_element(env, out, i, items[i]);
    return out;
}

/* revokeSocket(fd) -> 0. Takes the socket back from everyone who holds it, by two means of which one is enough, because a
 * holder can have prepared against each: a filter that drops every packet, and the lock on it (socket(7), SO_LOCK_FILTER;
 * since 2026 attaching one to TCP takes CAP_NET_ADMIN, Linux 5d39580f68e6); and binding it to an interface that does not
 * exist, which only CAP_NET_RAW can change again. Then shutdown, which alone would not do: the holder may listen() again,
 * and UDP goes on receiving. -EPERM: the holder has prevented both; then nothing is shut down. */
napi_value revoke_socket(napi_env env, napi_callback_info info) {
    int32_t fd;
    struct sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
    struct sock_fprog program = {.len = 1, .filter = &drop};

    if (!get_args(env, info, "i", &fd))
        return NULL;
    bool dropped = setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0;
    dropped = set_option(fd, SOL_SOCKET, SO_LOCK_FILTER, 1) == 0 && dropped;
    if (set_option(fd, SOL_SOCKET, SO_BINDTOIFINDEX, INT_MAX) < 0 && !dropped)
        return make_result(env, -1);
    shutdown(fd, SHUT_RDWR); /* ENOTCONN on UDP, where the rest does the work */
    return make_int(env, 0);
}

/* lockFile(fd) -> 0, or -EWOULDBLOCK if another process holds it. Held until the descriptor closes (flock(2)). */
FD_METHOD(lock_file, flock(fd, LOCK_EX | LOCK_NB))

/* appendText(fd, text) -> count of bytes written, of a text below 64 KiB. What fs.writeSync does takes 1 us longer. */
napi_value append_text(napi_env env, napi_callback_info info) {
    int32_t fd;
    char text[65536];
    return get_args(env, info, "is", &fd, text, sizeof text) ? make_result(env, write(fd, text, strlen(text))) : NULL;
}
