/* The calls that Node lacks, and nothing else: one system call or one fixed sequence each, without policy. Registered here. */
#include "addon.h"

#include <string.h>

/* sha256(text) -> in hexadecimal, of a text below 64 KiB; -ENOSYS where Node has none. By the OpenSSL 3 in Node, which exports it for
 * addons, because to load node:crypto takes 3 ms of the helper's start, and 2 MB, and its hash() 1 us more. */
__attribute__((weak)) void *EVP_MD_fetch(void *library, const char *name, const char *properties);
__attribute__((weak)) int EVP_Digest(const void *bytes, size_t size, uint8_t *digest, unsigned *, const void *md, void *);
static napi_value sha256(napi_env env, napi_callback_info info) {
    static const void *md;
    static const char digits[] = "0123456789abcdef";
    char text[65536], hex[64];
    uint8_t digest[32];
    napi_value out;
    if (!get_args(env, info, "s", text, sizeof text))
        return NULL;
    md = md || !EVP_MD_fetch ? md : EVP_MD_fetch(NULL, "SHA256", NULL);
    if (!md || !EVP_Digest(text, strlen(text), digest, NULL, md, NULL))
        return make_int(env, -ENOSYS);
    for (size_t i = 0; i < sizeof hex; i++)
        hex[i] = digits[i % 2 ? digest[i / 2] & 15 : digest[i / 2] >> 4];
    return napi_create_string_latin1(env, hex, sizeof hex, &out) == napi_ok ? out : NULL;
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
        {"lockDown", lock_down},     {"forbidIoUring", forbid_io_uring},     {"appendText", append_text},
        {"sha256", sha256},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        napi_value function;
        if (napi_create_function(env, table[i].name, NAPI_AUTO_LENGTH, table[i].call, NULL, &function) != napi_ok ||
            napi_set_named_property(env, exports, table[i].name, function) != napi_ok)
            return NULL;
    }
    return exports;
}
