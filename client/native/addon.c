/* Registers the methods of `lowport exec` and converts their arguments; the other files hold them by subject. */
#include "exec.h"

#include <stdarg.h>
#include <string.h>

static bool get_view(napi_env env, napi_value value, napi_typedarray_type wanted, void **data, size_t *length) {
    bool is = false;
    napi_typedarray_type type;
    return napi_is_typedarray(env, value, &is) == napi_ok && is &&
           napi_get_typedarray_info(env, value, &type, length, data, NULL, NULL) == napi_ok && type == wanted;
}

bool read_args(napi_env env, napi_callback_info info, const char *format, ...) {
    napi_value args[8];
    size_t count = strlen(format), got = count;
    va_list out;
    bool ok = napi_get_cb_info(env, info, &got, args, NULL, NULL) == napi_ok && got == count;
    va_start(out, format);
    for (size_t i = 0; ok && i < count; i++) {
        if (format[i] == 'i') {
            double number = 0;
            ok = napi_get_value_double(env, args[i], &number) == napi_ok && number >= INT32_MIN && number <= INT32_MAX;
            int32_t *integer = va_arg(out, int32_t *);
            *integer = ok ? (int32_t)number : 0;
        } else {
            void **data = va_arg(out, void **);
            ok = get_view(env, args[i], format[i] == 'u' ? napi_uint8_array : napi_int32_array, data, va_arg(out, size_t *));
        }
    }
    va_end(out);
    if (!ok)
        napi_throw_type_error(env, NULL, "lowport exec addon: an argument is missing or of another type");
    return ok;
}

napi_value give_int(napi_env env, int64_t value) {
    napi_value out;
    return napi_create_int64(env, value, &out) == napi_ok ? out : NULL;
}

napi_value give_result(napi_env env, int64_t value) {
    return give_int(env, value < 0 ? -errno : value);
}

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
        {"moveEpoll", move_epoll},         {"writeNow", write_now},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        napi_value function;
        if (napi_create_function(env, table[i].name, NAPI_AUTO_LENGTH, table[i].call, NULL, &function) != napi_ok ||
            napi_set_named_property(env, exports, table[i].name, function) != napi_ok)
            return NULL;
    }
    return exports;
}
