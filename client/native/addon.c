/* Registers the methods of `lowport exec`; the other files hold them by subject. */
#include "exec.h"

NAPI_MODULE_INIT() {
    static const struct {
        const char *name;
        napi_callback call;
    } table[] = {
        {"startApart", start_apart},       {"trapBind", trap_bind},           {"allowTracer", allow_tracer},
        {"openProcess", open_process},     {"become", become},                {"leave", leave},
        {"receiveNotice", receive_notice}, {"noticeIsValid", notice_is_valid}, {"readAddress", read_address},
        {"takeFd", take_fd},               {"placeFd", place_fd},             {"answerNotice", answer_notice},
        {"describeSocket", describe_socket}, {"carryOptions", carry_options}, {"setBlocking", set_blocking},
        {"moveEpoll", move_epoll},         {"writeNow", write_now},           {"waitReady", wait_ready},
        {"receiveWithFds", receive_with_fds},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        napi_value function;
        if (napi_create_function(env, table[i].name, NAPI_AUTO_LENGTH, table[i].call, NULL, &function) != napi_ok ||
            napi_set_named_property(env, exports, table[i].name, function) != napi_ok)
            return NULL;
    }
    return exports;
}
