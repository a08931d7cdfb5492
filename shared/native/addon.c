/* The calls that Node lacks, and nothing else: one system call or one fixed sequence each, without policy. Registered here. */
#include "addon.h"

#include <string.h>

/* sha256(text) -> in hexadecimal, of a text below 64 KiB; -ENOSYS where Node has none. By the OpenSSL 3 in Node, which exports it for
 * addons, because to load node:crypto takes 3 ms of the helper's start, and 2 MB, and its hash() 1 us more. */
__attribute__((weak)) void *EVP_MD_fetch(void *library, const char *name, const char *properties);
__attribute__((weak)) int EVP_Digest(const void *bytes, size_t size, uint8_t *digest, unsigned *, const void *md, void *);
static napi_value sha256(napi_env env, napi_callback_info info) {
    static const void *md;
    char text[65536], hex[64];
    uint8_t digest[32];
    napi_value out;
    if (!get_args(env, info, "s", text, sizeof text))
        return NULL;
    md = md || !EVP_MD_fetch ? md : EVP_MD_fetch(NULL, "SHA256", NULL);
    if (!md || !EVP_Digest(text, strlen(text), digest, NULL, md, NULL))
        return make_int(env, -ENOSYS);
    for (size_t i = 0; i < sizeof hex; i++)
        hex[i] = "0123456789abcdef"[i % 2 ? digest[i / 2] & 15 : digest[i / 2] >> 4];
    return napi_create_string_latin1(env, hex, sizeof hex, &out) == napi_ok ? out : NULL;
}

NAPI_MODULE_INIT() {
    static const napi_property_descriptor methods[] = {
        METHOD("bindSocket", bind_socket),   METHOD("socketInfo", socket_info),           METHOD("revokeSocket", revoke_socket),
        METHOD("lockFile", lock_file),       METHOD("appendText", append_text),           METHOD("sha256", sha256),
        METHOD("openUnix", open_unix),       METHOD("acceptUnix", accept_unix),           METHOD("send", send_with_fds),
        METHOD("receive", receive_bytes),    METHOD("peerCredentials", peer_credentials), METHOD("pollRef", poll_ref),
        METHOD("pollStart", poll_start),     METHOD("pollWatch", poll_watch),             METHOD("lockDown", lock_down),
        METHOD("forbidIoUring", forbid_io_uring),
    };
    return napi_define_properties(env, exports, sizeof methods / sizeof *methods, methods) == napi_ok ? exports : NULL;
}
