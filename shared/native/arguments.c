/* What comes from JavaScript and goes back to it; also of client/native. */
#include "addon.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

static bool get_string(napi_env env, napi_value value, char *out, size_t size) {
    size_t length = 0, whole = 0;
    /* A copy that comes near its room may have been cut short in silence; a NUL would hide what follows it. */
    return napi_get_value_string_utf8(env, value, out, size, &length) == napi_ok && strlen(out) == length &&
           (length + 4 < size || (napi_get_value_string_utf8(env, value, NULL, 0, &whole) == napi_ok && whole == length));
}

static bool get_view(napi_env env, napi_value value, napi_typedarray_type wanted, void **data, size_t *length) {
    bool is = false;
    napi_typedarray_type type;
    return napi_is_typedarray(env, value, &is) == napi_ok && is &&
           napi_get_typedarray_info(env, value, &type, length, data, NULL, NULL) == napi_ok && type == wanted;
}

bool get_args(napi_env env, napi_callback_info info, const char *format, ...) {
    napi_value args[8];
    size_t count = strlen(format), got = count;
    va_list out;
    bool ok = napi_get_cb_info(env, info, &got, args, NULL, NULL) == napi_ok && got == count;
    va_start(out, format);
    for (size_t i = 0; ok && i < count; i++) {
        if (format[i] == 'i') {
            double number = NAN;
            ok = napi_get_value_double(env, args[i], &number) == napi_ok && number >= INT32_MIN && number <= INT32_MAX;
            int32_t *integer = va_arg(out, int32_t *);
            *integer = ok ? (int32_t)number : 0;
            ok = ok && number == (double)*integer;
        } else if (format[i] == 'b')
            ok = napi_get_value_bool(env, args[i], va_arg(out, bool *)) == napi_ok;
        else if (format[i] == 'v')
            *va_arg(out, napi_value *) = args[i];
        else {
            void **data = va_arg(out, void **); /* the char * itself for 's' */
            if (format[i] == 's')
                ok = get_string(env, args[i], (char *)data, va_arg(out, size_t));
            else
                ok = get_view(env, args[i], format[i] == 'u' ? napi_uint8_array : napi_int32_array, data,
                              va_arg(out, size_t *));
        }
    }
    va_end(out);
    if (!ok)
        napi_throw_type_error(env, NULL, "lowport addon: an argument is missing or of another type");
    return ok;
}

napi_value make_int(napi_env env, int64_t value) {
    napi_value out;
    return napi_create_int64(env, value, &out) == napi_ok ? out : NULL;
}

napi_value make_result(napi_env env, int64_t value) {
    return make_int(env, value < 0 ? -errno : value);
}
