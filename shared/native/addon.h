/* What the files of this addon share. A method returns a number >= 0, or -errno. Nothing throws but a caller's type error
 * and lock_down(), because an exception costs more than the system call it would report. */
#ifndef LOWPORT_ADDON_H
#define LOWPORT_ADDON_H

#define _GNU_SOURCE /* accept4, struct ucred, setresuid */
#include <errno.h>
#include <linux/audit.h>
#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) /* for the seccomp filters */
#define THIS_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define THIS_ARCH AUDIT_ARCH_AARCH64
#else
#error "lowport: no seccomp filter for this architecture yet; add its AUDIT_ARCH_ constant here"
#endif

#define MAX_FDS 253 /* in one message: SCM_MAX_FD of the kernel (unix(7)) */

/* Reads the arguments by a format, a letter each; false, with a TypeError pending, if one does not fit:
 *   i  a 32-bit integer    int32_t *         b  a boolean    bool *
 *   s  a string without NUL that fits        char *, size_t size
 *   u  a Uint8Array, as a view               uint8_t **, size_t *bytes
 *   n  an Int32Array, as a view              int32_t **, size_t *elements
 *   v  any value                             napi_value * */
bool get_args(napi_env env, napi_callback_info info, const char *format, ...);

napi_value make_int(napi_env env, int64_t value);
/* The result of a system call: itself if it is not negative, else -errno. */
napi_value make_result(napi_env env, int64_t value);

/* A method that takes a descriptor and gives what one system call on it does. */
#define FD_METHOD(name, call)                                                          \
    napi_value name(napi_env env, napi_callback_info info) {                           \
        int32_t fd;                                                                    \
        return get_args(env, info, "i", &fd) ? make_result(env, call) : NULL;          \
    }

#define METHOD(name, call) {name, NULL, call, NULL, NULL, NULL, napi_enumerable, NULL} /* of a module */
typedef napi_value method(napi_env env, napi_callback_info info);
method bind_socket, socket_info, revoke_socket, lock_file, append_text;                                  /* socket.c */
method open_unix, accept_unix, peer_credentials, receive_bytes, send_with_fds;                        /* unix.c */
method poll_start, poll_watch, poll_ref;                                                                 /* poll.c */
method forbid_io_uring, lock_down;                                                                       /* lockdown.c */

#endif
