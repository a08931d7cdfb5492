/* The calls that Node lacks, and nothing else: one system call or one fixed sequence each, without policy. Registered here. */
#include "addon.h"

NAPI_MODULE_INIT() {
    static const struct {
        const char *name;
        napi_callback call;
    } table[] = {
        {"bindSocket", bind_socket}, {"socketInfo", socket_info},           {"revokeSocket", revoke_socket},
        {"lockFile", lock_file},     {"openUnix", open_unix},               {"acceptUnix", accept_unix},
        {"receive", receive_bytes},  {"peerCredentials", peer_credentials}, {"send", send_with_fds},
        {"pollStart", poll_start},   {"pollWatch", poll_watch},             {"pollRef", poll_ref},
        {"lockDown", lock_down},     {"forbidIoUring", forbid_io_uring},     {"appendText", append_text},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        napi_value function;
        if (napi_create_function(env, table[i].name, NAPI_AUTO_LENGTH, table[i].call, NULL, &function) != napi_ok ||
            napi_set_named_property(env, exports, table[i].name, function) != napi_ok)
            return NULL;
    }
    return exports;
}
