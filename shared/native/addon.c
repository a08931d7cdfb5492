/* The calls that Node lacks, and nothing else: one system call or one fixed sequence each, without policy. Registered here. */
#include "addon.h"

/* sha256(bytes, digest) -> 0. By the OpenSSL in Node, which exports it for addons: node:crypto takes 3 ms to load. */
__attribute__((weak)) void *EVP_MD_fetch(void *library, const char *name, const char *properties);
__attribute__((weak)) int EVP_Digest(const void *bytes, size_t size, uint8_t *digest, unsigned *, const void *md, void *);
static napi_value sha256(napi_env env, napi_callback_info info) {
    static const void *md;
    uint8_t *bytes, *digest;
    size_t size, room;
    if (!get_args(env, info, "uu", &bytes, &size, &digest, &room))
        return NULL;
    md = md || !EVP_MD_fetch ? md : EVP_MD_fetch(NULL, "SHA256", NULL);
    return make_int(env, room < 32 ? -EINVAL : md && EVP_Digest(bytes, size, digest, NULL, md, NULL) ? 0 : -ENOSYS);
}

NAPI_MODULE_INIT() {
    static const struct {
        const char *name;
        napi_callback call;
    } table[] = {
        {"bindSocket", bind_socket}, {"socketInfo", socket_info},           {"revokeSocket", revoke_socket},
        {"lockFile", lock_file},     {"openUnix", open_unix},               {"acceptUnix", accept_unix},
        {"receive", receive_bytes},  {"peerCredentials", peer_credentials}, {"send", send_with_fds},
        {"pollStart", poll_start},   {"pollWatch", poll_watch},             {"pollRef", poll_ref},
        {"lockDown", lock_down},     {"forbidIoUring", forbid_io_uring},    {"sha256", sha256},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        napi_value function;
        if (napi_create_function(env, table[i].name, NAPI_AUTO_LENGTH, table[i].call, NULL, &function) != napi_ok ||
            napi_set_named_property(env, exports, table[i].name, function) != napi_ok)
            return NULL;
    }
    return exports;
}
