/* What a socket was before it was bound goes over to the one that takes its place: its options, its blocking mode, and its
 * registrations in epoll sets. */
#include "exec.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* Linux 5.14 */
#endif

static int get_int(int fd, int level, int name) {
    int value = 0;
    socklen_t length = sizeof value;
    return getsockopt(fd, level, name, &value, &length) == 0 ? value : 0;
}

/* describeSocket(fd, out) -> 0. out: [domain, type, protocol, V6ONLY, SO_REUSEPORT, bound port, the cookie of its network
 * namespace (two, 0 before Linux 5.14), non-blocking]. */
napi_value describe_socket(napi_env env, napi_callback_info info) {
    int32_t fd, *out;
    size_t length;
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    uint64_t cookie = 0;
    socklen_t cookie_size = sizeof cookie;

    if (!get_args(env, info, "in", &fd, &out, &length))
        return NULL;
    if (length < 9)
        return make_int(env, -EINVAL);
    memset(&address, 0, sizeof address);
    if (getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        return make_result(env, -1);
    getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &cookie_size);
    out[0] = get_int(fd, SOL_SOCKET, SO_DOMAIN);
    out[1] = get_int(fd, SOL_SOCKET, SO_TYPE);
    out[2] = get_int(fd, SOL_SOCKET, SO_PROTOCOL);
    out[3] = out[0] == AF_INET6 ? get_int(fd, IPPROTO_IPV6, IPV6_V6ONLY) : 0;
    out[4] = get_int(fd, SOL_SOCKET, SO_REUSEPORT);
    /* The port stands at the same place in both. */
    out[5] = out[0] == AF_INET || out[0] == AF_INET6 ? ntohs(((struct sockaddr_in *)&address)->sin_port) : 0;
    out[6] = (int32_t)(uint32_t)cookie;
    out[7] = (int32_t)(uint32_t)(cookie >> 32);
    out[8] = (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0;
    return make_int(env, 0);
}

/* Not in it: SO_REUSEADDR (the helper's own choice), SO_REUSEPORT and IPV6_V6ONLY (asked of the helper), what takes a
 * capability, and what cannot be read back (multicast memberships, TCP_MD5SIG). */
static const int options[][2] = {
    {SOL_SOCKET, SO_SNDBUF}, {SOL_SOCKET, SO_RCVBUF}, {SOL_SOCKET, SO_KEEPALIVE}, {SOL_SOCKET, SO_LINGER},
    {SOL_SOCKET, SO_RCVTIMEO}, {SOL_SOCKET, SO_SNDTIMEO}, {SOL_SOCKET, SO_RCVLOWAT}, {SOL_SOCKET, SO_BROADCAST},
    {SOL_SOCKET, SO_OOBINLINE}, {SOL_SOCKET, SO_TIMESTAMP}, {SOL_SOCKET, SO_TIMESTAMPNS},
    {SOL_SOCKET, SO_RXQ_OVFL}, {SOL_SOCKET, SO_INCOMING_CPU}, {SOL_SOCKET, SO_NO_CHECK}, {SOL_SOCKET, SO_DONTROUTE},
    {IPPROTO_TCP, TCP_NODELAY}, {IPPROTO_TCP, TCP_KEEPIDLE}, {IPPROTO_TCP, TCP_KEEPINTVL}, {IPPROTO_TCP, TCP_KEEPCNT},
    {IPPROTO_TCP, TCP_USER_TIMEOUT}, {IPPROTO_TCP, TCP_DEFER_ACCEPT}, {IPPROTO_TCP, TCP_SYNCNT},
    {IPPROTO_TCP, TCP_LINGER2}, {IPPROTO_TCP, TCP_CORK}, {IPPROTO_TCP, TCP_MAXSEG}, {IPPROTO_TCP, TCP_WINDOW_CLAMP},
    {IPPROTO_TCP, TCP_CONGESTION}, {IPPROTO_TCP, TCP_FASTOPEN}, {IPPROTO_TCP, TCP_SAVE_SYN}, {IPPROTO_TCP, TCP_QUICKACK},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT},
    {IPPROTO_UDP, 1 /* UDP_CORK */}, {IPPROTO_UDP, 103 /* UDP_SEGMENT */}, {IPPROTO_UDP, 104 /* UDP_GRO */},
    {IPPROTO_IP, IP_TOS}, {IPPROTO_IP, IP_TTL}, {IPPROTO_IP, IP_PKTINFO}, {IPPROTO_IP, IP_RECVTOS},
    {IPPROTO_IP, IP_RECVTTL}, {IPPROTO_IP, IP_RECVERR}, {IPPROTO_IP, IP_RECVORIGDSTADDR}, {IPPROTO_IP, IP_MTU_DISCOVER},
    {IPPROTO_IP, IP_MULTICAST_TTL}, {IPPROTO_IP, IP_MULTICAST_LOOP}, {IPPROTO_IP, IP_MULTICAST_ALL},
    {IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT},
    {IPPROTO_IPV6, IPV6_TCLASS}, {IPPROTO_IPV6, IPV6_UNICAST_HOPS}, {IPPROTO_IPV6, IPV6_RECVPKTINFO},
    {IPPROTO_IPV6, IPV6_RECVTCLASS}, {IPPROTO_IPV6, IPV6_RECVHOPLIMIT}, {IPPROTO_IPV6, IPV6_RECVERR},
    {IPPROTO_IPV6, IPV6_MTU_DISCOVER}, {IPPROTO_IPV6, IPV6_MULTICAST_HOPS}, {IPPROTO_IPV6, IPV6_MULTICAST_LOOP},
    {IPPROTO_IPV6, IPV6_MULTICAST_ALL}, {IPPROTO_IPV6, IPV6_DONTFRAG}, {IPPROTO_IPV6, IPV6_AUTOFLOWLABEL},
    {IPPROTO_IP, 21 /* IP_MINTTL */}, {IPPROTO_IPV6, 73 /* IPV6_MINHOPCOUNT */}, {IPPROTO_IP, IP_MULTICAST_IF},
    {IPPROTO_IPV6, IPV6_MULTICAST_IF}, {IPPROTO_IP, IP_FREEBIND}, {IPPROTO_IP, IP_RECVOPTS},
    {SOL_SOCKET, SO_TIMESTAMPING}, {SOL_SOCKET, SO_PEEK_OFF},
    {SOL_SOCKET, SO_PRIORITY}, /* last: IP_TOS changes it */
};

static void carry(int from, int to, int level, int name) {
    union {
        unsigned char bytes[64];
        int number;
    } old, new;
    socklen_t old_length = sizeof old, new_length = sizeof new;
    memset(&old, 0, sizeof old), memset(&new, 0, sizeof new);
    if (getsockopt(from, level, name, &old, &old_length) < 0 || getsockopt(to, level, name, &new, &new_length) < 0 ||
        memcmp(&old, &new, sizeof old) == 0)
        return;
    if (level == SOL_SOCKET && (name == SO_SNDBUF || name == SO_RCVBUF))
        old.number /= 2; /* socket(7): the kernel doubles what it is given */
    setsockopt(to, level, name, &old, old_length);
}

/* The filter of a socket: 1 if there was one, 0 if not, -1 if it cannot be had, as one of eBPF cannot (SO_GET_FILTER, Linux 3.8:
 * the length counts instructions). */
static int carry_filter(int from, int to) {
    static struct sock_filter program[BPF_MAXINSNS];
    socklen_t count = 0;
    if (getsockopt(from, SOL_SOCKET, SO_GET_FILTER, NULL, &count) < 0)
        return -1;
    if (count == 0 || count > BPF_MAXINSNS)
        return count == 0 ? 0 : -1;
    struct sock_fprog list = {.len = (unsigned short)count, .filter = program};
    if (getsockopt(from, SOL_SOCKET, SO_GET_FILTER, program, &count) < 0 ||
        setsockopt(to, SOL_SOCKET, SO_ATTACH_FILTER, &list, sizeof list) < 0)
        return -1;
    carry(from, to, SOL_SOCKET, SO_LOCK_FILTER);
    return 1;
}

/* carryOptions(from, to) -> 0. An option that cannot be set stays as it is, but for the device that a socket is bound to and
 * its filter: without them the socket would hear more than was asked for. What it has heard before is thrown away. */
napi_value carry_options(napi_env env, napi_callback_info info) {
    int32_t from, to;
    char device[64] = "";
    socklen_t length = sizeof device;
    if (!get_args(env, info, "ii", &from, &to))
        return NULL;
    bool bound = getsockopt(from, SOL_SOCKET, SO_BINDTODEVICE, device, &length) == 0 && length > 0 && device[0] != '\0';
    if (bound && setsockopt(to, SOL_SOCKET, SO_BINDTODEVICE, device, length) < 0)
        return make_result(env, -1);
    int filtered = carry_filter(from, to);
    if (filtered < 0)
        return make_result(env, -1);
    for (int left = 10000; (bound || filtered) && get_int(to, SOL_SOCKET, SO_TYPE) == SOCK_DGRAM && left > 0; left--)
        if (recv(to, device, 1, MSG_DONTWAIT) < 0)
            break;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        carry(from, to, options[i][0], options[i][1]);
    return make_int(env, 0);
}

/* setBlocking(fd, 1 or 0) -> 0. Every copy of the descriptor is changed with it. */
napi_value set_blocking(napi_env env, napi_callback_info info) {
    int32_t fd, blocking;
    if (!get_args(env, info, "ii", &fd, &blocking))
        return NULL;
    int flags = fcntl(fd, F_GETFL);
    return make_result(env, flags < 0 ? -1 : fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK));
}

struct move {
    int epoll, number, old, new;
    struct epoll_event event;
    int error;
};

/* A registration belongs to a pair of open file and number, and epoll_ctl takes the number from the table of its caller: so
 * this thread has a table of its own, in which the sockets stand at the number that they have in the program. */
static void *move_in_thread(void *data) {
    struct move *move = data;
    int above = move->number + 1;
    if (unshare(CLONE_FILES) == 0) {
        int epoll = fcntl(move->epoll, F_DUPFD_CLOEXEC, above), old = fcntl(move->old, F_DUPFD_CLOEXEC, above),
            new = fcntl(move->new, F_DUPFD_CLOEXEC, above);
        if (epoll >= 0 && old >= 0 && new >= 0 && dup2(old, move->number) >= 0 &&
            epoll_ctl(epoll, EPOLL_CTL_DEL, move->number, NULL) == 0 && dup2(new, move->number) >= 0 &&
            epoll_ctl(epoll, EPOLL_CTL_ADD, move->number, &move->event) == 0)
            return NULL;
    }
    move->error = errno;
    return NULL;
}

/* moveEpoll([epoll, number, old, new, events, data (two)]) -> 0. What was registered as `number` of the old socket is
 * registered as that number of the new. */
napi_value move_epoll(napi_env env, napi_callback_info info) {
    int32_t *words;
    size_t length;
    pthread_t thread;
    if (!get_args(env, info, "n", &words, &length))
        return NULL;
    if (length != 7)
        return make_int(env, -EINVAL);
    struct move move = {.epoll = words[0], .number = words[1], .old = words[2], .new = words[3]};
    move.event.events = (uint32_t)words[4];
    move.event.data.u64 = (uint32_t)words[5] | (uint64_t)(uint32_t)words[6] << 32;
    int error = pthread_create(&thread, NULL, move_in_thread, &move);
    if (error == 0)
        pthread_join(thread, NULL);
    return make_int(env, error ? -error : -move.error);
}

/* writeNow(fd, bytes) -> count. -EAGAIN if it would have to wait, as for a terminal that stands still or a pipe that is full. */
napi_value write_now(napi_env env, napi_callback_info info) {
    int32_t fd;
    uint8_t *bytes;
    size_t length;
    if (!get_args(env, info, "iu", &fd, &bytes, &length))
        return NULL;
    struct pollfd ready = {.fd = fd, .events = POLLOUT};
    if (poll(&ready, 1, 0) != 1 || !(ready.revents & POLLOUT))
        return make_int(env, -EAGAIN);
    return make_result(env, write(fd, bytes, length < 4096 ? length : 4096)); /* PIPE_BUF: whole, or not at all */
}

/* waitReady(fd, mask, ms) -> what of the mask is ready (epoll(7)); 0 if nothing was in that time, or a signal came. The thread waits. */
napi_value wait_ready(napi_env env, napi_callback_info info) {
    int32_t fd, mask, ms;
    if (!get_args(env, info, "iii", &fd, &mask, &ms))
        return NULL;
    struct pollfd ready = {.fd = fd, .events = (short)mask};
    int count = poll(&ready, 1, ms);
    return count < 0 && errno != EINTR ? make_result(env, -1) : make_int(env, count > 0 ? ready.revents : 0);
}
