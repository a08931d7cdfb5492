/* A service on a D-Bus that does lowport's work without its record: it asks the bus who calls, binds, listens, and answers
 * with the socket; and a client of it. DBUS_SYSTEM_BUS_ADDRESS says where the bus is.
 *
 *   peer-dbus service UID      says "ready" when it can be called; UID may have sockets
 *   peer-dbus client METHOD    answers each number on its input with the nanoseconds of as many calls of METHOD:
 *                              Bind asks the bus about the caller at each call, BindCached once for each connection */
#include <arpa/inet.h>
#include <dbus/dbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NAME "bench.Ports"
enum { FIRST_PORT = 700, PORTS = 64 };

static void die(const char *what, const DBusError *error) {
    fprintf(stderr, "peer-dbus: %s: %s\n", what, error && dbus_error_is_set(error) ? error->message : "failed");
    exit(1);
}

static long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

static int bind_socket(unsigned port) {
    int on = 1, off = 0, fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons((unsigned short)port)};
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 511) < 0)
        die("bind", NULL);
    return fd;
}

/* Whom the bus says that a message is from. A unique name is given once only, so it can be remembered. */
static unsigned long user_of(DBusConnection *bus, const char *sender, int cached) {
    static char known[256];
    static unsigned long uid;
    DBusError error = DBUS_ERROR_INIT;
    if (cached && strcmp(known, sender) == 0)
        return uid;
    uid = dbus_bus_get_unix_user(bus, sender, &error);
    if (dbus_error_is_set(&error))
        die("GetConnectionUnixUser", &error);
    snprintf(known, sizeof known, "%s", sender);
    return uid;
}

static void answer(DBusConnection *bus, DBusMessage *call, unsigned long allowed) {
    int each = dbus_message_is_method_call(call, NAME, "Bind");
    dbus_uint32_t port;
    if (!each && !dbus_message_is_method_call(call, NAME, "BindCached"))
        return;
    if (!dbus_message_get_args(call, NULL, DBUS_TYPE_UINT32, &port, DBUS_TYPE_INVALID))
        die("arguments", NULL);
    DBusMessage *reply;
    if (user_of(bus, dbus_message_get_sender(call), !each) == allowed) {
        int fd = bind_socket(port);
        reply = dbus_message_new_method_return(call);
        dbus_message_append_args(reply, DBUS_TYPE_UNIX_FD, &fd, DBUS_TYPE_INVALID);
        close(fd); /* the message has its own */
    } else
        reply = dbus_message_new_error(call, DBUS_ERROR_ACCESS_DENIED, "not your port");
    dbus_connection_send(bus, reply, NULL);
    dbus_message_unref(reply);
    dbus_connection_flush(bus);
}

static void serve(DBusConnection *bus, unsigned long allowed) {
    DBusError error = DBUS_ERROR_INIT;
    if (dbus_bus_request_name(bus, NAME, 0, &error) != DBUS_REQUEST_NAME_REPLY_PRIMARY_OWNER)
        die("request_name", &error);
    printf("ready\n");
    fflush(stdout);
    while (dbus_connection_read_write(bus, -1))
        for (DBusMessage *call; (call = dbus_connection_pop_message(bus)); dbus_message_unref(call))
            answer(bus, call, allowed);
}

static long one_call(DBusConnection *bus, const char *method, dbus_uint32_t port) {
    DBusError error = DBUS_ERROR_INIT;
    int fd;
    long from = now();
    DBusMessage *call = dbus_message_new_method_call(NAME, "/", NAME, method);
    dbus_message_append_args(call, DBUS_TYPE_UINT32, &port, DBUS_TYPE_INVALID);
    DBusMessage *reply = dbus_connection_send_with_reply_and_block(bus, call, -1, &error);
    if (!reply || !dbus_message_get_args(reply, &error, DBUS_TYPE_UNIX_FD, &fd, DBUS_TYPE_INVALID))
        die(method, &error);
    long took = now() - from;
    close(fd);
    dbus_message_unref(call);
    dbus_message_unref(reply);
    return took;
}

int main(int argc, char **argv) {
    char line[64];
    unsigned next = 0;
    DBusError error = DBUS_ERROR_INIT;
    if (argc < 3)
        return 64;
    DBusConnection *bus = dbus_bus_get(DBUS_BUS_SYSTEM, &error);
    if (!bus)
        die("connect", &error);
    if (strcmp(argv[1], "service") == 0)
        serve(bus, strtoul(argv[2], NULL, 10));
    else
        while (fgets(line, sizeof line, stdin)) {
            /* Another port each time: the bus may close its copy of the socket after the client has had its own. */
            for (long left = atol(line); left > 0; left--)
                printf("%ld%c", one_call(bus, argv[2], FIRST_PORT + next++ % PORTS), left > 1 ? ' ' : '\n');
            fflush(stdout);
        }
    return 0;
}
