/* Registers the methods of `lowport exec`; the other files hold them by subject. */
#include "exec.h"

NAPI_MODULE_INIT() {
    static const napi_property_descriptor methods[] = {
        METHOD("startApart", start_apart), METHOD("trapBind", trap_bind), METHOD("allowTracer", allow_tracer),
        METHOD("openProcess", open_process), METHOD("become", become), METHOD("leave", leave),
        METHOD("receiveNotice", receive_notice), METHOD("noticeIsValid", notice_is_valid), METHOD("readAddress", read_address),
        METHOD("takeFd", take_fd), METHOD("placeFd", place_fd), METHOD("answerNotice", answer_notice),
        METHOD("describeSocket", describe_socket), METHOD("carryOptions", carry_options), METHOD("setBlocking", set_blocking),
        METHOD("moveEpoll", move_epoll), METHOD("writeNow", write_now), METHOD("waitReady", wait_ready),
        METHOD("receiveWithFds", receive_with_fds),
    };
    return napi_define_properties(env, exports, sizeof methods / sizeof *methods, methods) == napi_ok ? exports : NULL;
}
