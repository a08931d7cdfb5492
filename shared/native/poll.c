/* Readiness of descriptors that Node does not know, in Node's own event loop: one epoll set for the environment (main
 * thread or worker), whose ready descriptors come in one call. In an app libuv watches the set. In the helper this waits on
 * the set, with libuv's descriptor in it, where libuv would wait, so that a request takes one epoll_wait and not four.
 * libuv's functions are declared here and not taken from uv.h, which Node-API's headers lack: they are part of libuv's
 * stable ABI since 1.19, the handle's size is asked at run time and its type number is checked by name. */
#include "addon.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

typedef struct uv_handle_s uv_handle_t; /* any libuv handle, opaque */
enum { UV_IDLE = 6, UV_POLL = 8, UV_PREPARE = 9, UV_READABLE = 1, MAX_EVENTS = 64 };
typedef void uv_call(uv_handle_t *handle);
extern size_t uv_handle_size(int type);
extern const char *uv_handle_type_name(int type);
extern void *uv_handle_get_data(const uv_handle_t *handle);
extern void uv_handle_set_data(uv_handle_t *handle, void *data);
extern int uv_poll_init(struct uv_loop_s *loop, uv_handle_t *handle, int fd);
extern int uv_poll_start(uv_handle_t *handle, int events, void (*call)(uv_handle_t *, int, int));
extern int uv_prepare_init(struct uv_loop_s *loop, uv_handle_t *handle), uv_prepare_start(uv_handle_t *handle, uv_call *call);
extern int uv_idle_init(struct uv_loop_s *loop, uv_handle_t *handle), uv_idle_start(uv_handle_t *handle, uv_call *call);
extern int uv_idle_stop(uv_handle_t *handle);
extern int uv_backend_fd(const struct uv_loop_s *loop), uv_backend_timeout(const struct uv_loop_s *loop);
extern void uv_update_time(struct uv_loop_s *loop);
extern void uv_ref(uv_handle_t *handle), uv_unref(uv_handle_t *handle), uv_close(uv_handle_t *handle, uv_call *call);

struct poller {
    int epoll;
    struct uv_loop_s *loop;
    uv_handle_t *handle;
    bool instead; /* of libuv */
    napi_env env;
    napi_async_context context;
    napi_ref call, events_array;
    int32_t *events; /* the memory of events_array: n, then fd, mask, fd, mask, ... */
    napi_async_cleanup_hook_handle hook;
    size_t count;
    int *watched; /* `count` descriptors, to be closed with the environment: nobody else will */
};

static _Alignas(max_align_t) char idle[256]; /* a uv_idle handle: in the helper, which has one environment */

static void on_closed(uv_handle_t *handle) {
    struct poller *poller = uv_handle_get_data(handle);
    close(poller->epoll);
    while (poller->count > 0)
        close(poller->watched[--poller->count]);
    free(poller->watched);
    napi_remove_async_cleanup_hook(poller->hook);
    free(poller); /* and the handle */
}

/* The environment ends (a worker stops, the process exits): libuv must not be left with an open handle. */
static void on_teardown(napi_async_cleanup_hook_handle hook, void *data) {
    struct poller *poller = data;
    (void)hook;
    if (poller->instead)
        uv_close((uv_handle_t *)idle, NULL);
    uv_close(poller->handle, on_closed);
}

/* Waits up to `timeout` ms (-1: for ever) and says what is ready. @returns whether to go on: not if libuv has something to do */
static bool deliver(struct poller *poller, int timeout) {
    struct epoll_event events[MAX_EVENTS];
    napi_env env = poller->env;
    napi_handle_scope scope;
    napi_value call, error;
    int n = epoll_wait(poller->epoll, events, MAX_EVENTS, timeout);
    bool alone = n > 0 && timeout != 0;
    uv_update_time(poller->loop);
    if (n <= 0 || napi_open_handle_scope(env, &scope) != napi_ok)
        return false;
    poller->events[0] = n;
    for (int i = 0; i < n; i++) {
        poller->events[2 * i + 1] = events[i].data.fd;
        poller->events[2 * i + 2] = (int32_t)events[i].events;
        alone = alone && events[i].data.fd != uv_backend_fd(poller->loop);
    }
    napi_status status = napi_get_reference_value(env, poller->call, &call);
    status = status == napi_ok ? napi_make_callback(env, poller->context, call, call, 0, NULL, NULL) : status;
    if (status == napi_pending_exception && napi_get_and_clear_last_exception(env, &error) == napi_ok)
        napi_fatal_exception(env, error); /* 'uncaughtException', as from any other callback */
    napi_close_handle_scope(env, scope);
    return alone && (status == napi_ok || status == napi_pending_exception);
}

static void on_ready(uv_handle_t *handle, int status, int ready) {
    (void)status, (void)ready;
    deliver(uv_handle_get_data(handle), 0);
}

/* Before libuv waits. That there is an idle handle keeps it from waiting then; while this waits there is none, so that
 * uv_backend_timeout tells of what else there is: timers, immediates, descriptors to be added (then it is 0). */
static void before_wait(uv_handle_t *handle) {
    struct poller *poller = uv_handle_get_data(handle);
    uv_idle_stop((uv_handle_t *)idle);
    while (deliver(poller, uv_backend_timeout(poller->loop))) {}
    uv_idle_start((uv_handle_t *)idle, uv_unref); /* it does nothing else, and keeps nothing alive */
}

static bool start(struct poller *poller) {
    struct epoll_event libuv = {.events = EPOLLIN, .data = {.fd = uv_backend_fd(poller->loop)}};
    if (!poller->instead)
        return uv_poll_init(poller->loop, poller->handle, poller->epoll) == 0 &&
               uv_poll_start(poller->handle, UV_READABLE, on_ready) == 0;
    return uv_handle_size(UV_IDLE) <= sizeof idle && uv_idle_init(poller->loop, (uv_handle_t *)idle) == 0 &&
           uv_prepare_init(poller->loop, poller->handle) == 0 && uv_prepare_start(poller->handle, before_wait) == 0 &&
           epoll_ctl(poller->epoll, EPOLL_CTL_ADD, libuv.data.fd, &libuv) == 0;
}

/* pollStart(call, instead) -> Int32Array. From then on `call()` runs with the count and then as many pairs (fd, epoll mask) in
 * that array, of which one may be libuv's own. `instead`: waits in libuv's place. Once for an environment. */
napi_value poll_start(napi_env env, napi_callback_info info) {
    napi_value call, name, buffer, events;
    napi_valuetype type;
    bool instead;
    void *old = NULL;

    if (!get_args(env, info, "vb", &call, &instead))
        return NULL;
    if (napi_typeof(env, call, &type) != napi_ok || type != napi_function || napi_get_instance_data(env, &old) != napi_ok || old) {
        napi_throw_type_error(env, NULL, "lowport addon: pollStart takes a function, once");
        return NULL;
    }
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct poller *poller = calloc(1, sizeof *poller + uv_handle_size(instead ? UV_PREPARE : UV_POLL));
    if (epoll < 0 || !poller) {
        close(epoll), free(poller);
        napi_throw_error(env, "EMFILE", "lowport addon: no descriptor or memory left for epoll");
        return NULL;
    }
    *poller = (struct poller){.env = env, .handle = (uv_handle_t *)(poller + 1), .instead = instead, .epoll = epoll};
    uv_handle_set_data(poller->handle, poller);
    if (strcmp(uv_handle_type_name(UV_POLL), "poll") == 0 && strcmp(uv_handle_type_name(UV_PREPARE), "prepare") == 0 &&
        napi_create_arraybuffer(env, sizeof(int32_t[1 + 2 * MAX_EVENTS]), (void **)&poller->events, &buffer) == napi_ok &&
        napi_create_typedarray(env, napi_int32_array, 1 + 2 * MAX_EVENTS, buffer, 0, &events) == napi_ok &&
        napi_create_reference(env, call, 1, &poller->call) == napi_ok &&
        napi_create_reference(env, events, 1, &poller->events_array) == napi_ok &&
        napi_create_string_utf8(env, "lowport", NAPI_AUTO_LENGTH, &name) == napi_ok &&
        napi_async_init(env, NULL, name, &poller->context) == napi_ok &&
        napi_get_uv_event_loop(env, &poller->loop) == napi_ok && start(poller) &&
        napi_set_instance_data(env, poller, NULL, NULL) == napi_ok &&
        napi_add_async_cleanup_hook(env, on_teardown, poller, &poller->hook) == napi_ok)
        return events;
    napi_throw_error(env, "ERR_LOWPORT_POLL", "lowport addon: this event loop cannot be used");
    return NULL;
}

static struct poller *get_poller(napi_env env) {
    void *data;
    if (napi_get_instance_data(env, &data) == napi_ok && data)
        return data;
    napi_throw_error(env, "ERR_LOWPORT_POLL", "lowport addon: pollStart was not called");
    return NULL;
}

/* pollWatch(fd, mask) -> 0. A mask of 0 forgets the descriptor; any other replaces the one before. */
napi_value poll_watch(napi_env env, napi_callback_info info) {
    int32_t fd, mask;
    struct poller *poller = get_poller(env);
    if (!poller || !get_args(env, info, "ii", &fd, &mask))
        return NULL;
    struct epoll_event event = {.events = (uint32_t)mask, .data = {.fd = fd}};
    if (mask == 0) {
        for (size_t i = 0; i < poller->count; i++)
            if (poller->watched[i] == fd)
                poller->watched[i--] = poller->watched[--poller->count];
        return make_result(env, epoll_ctl(poller->epoll, EPOLL_CTL_DEL, fd, NULL));
    }
    int *grown = realloc(poller->watched, (poller->count + 1) * sizeof *grown);
    poller->watched = grown ? grown : poller->watched;
    int result = grown ? epoll_ctl(poller->epoll, EPOLL_CTL_ADD, fd, &event) : -1;
    if (result == 0)
        grown[poller->count++] = fd;
    return make_result(env, result < 0 && errno == EEXIST ? epoll_ctl(poller->epoll, EPOLL_CTL_MOD, fd, &event) : result);
}

/* pollRef(keep) -> 0. Whether the watched descriptors keep the process alive. */
napi_value poll_ref(napi_env env, napi_callback_info info) {
    bool keep;
    struct poller *poller = get_poller(env);
    if (!poller || !get_args(env, info, "b", &keep))
        return NULL;
    (keep ? uv_ref : uv_unref)(poller->handle);
    return make_int(env, 0);
}
