/* What the files of this addon share. It runs with the rights of the user who typed `lowport exec`, never with the helper's,
 * which does not load it. A method returns a number >= 0, or -errno. */
#ifndef LOWPORT_EXEC_H
#define LOWPORT_EXEC_H

#define _GNU_SOURCE /* process_vm_readv, unshare, execvpe */
#include <errno.h>
#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads the arguments by a format, a letter each; false, with a TypeError pending, if one does not fit:
 *   i  a 32-bit integer              int32_t *
 *   u  a Uint8Array, as a view       uint8_t **, size_t *bytes
 *   n  an Int32Array, as a view      int32_t **, size_t *elements
 */
bool read_args(napi_env env, napi_callback_info info, const char *format, ...);

/* The result of a system call: itself if it is not negative, else -errno. */
napi_value give_result(napi_env env, int64_t value);
napi_value give_int(napi_env env, int64_t value);

typedef napi_value exec_method(napi_env env, napi_callback_info info);
exec_method start_apart, trap_bind, allow_tracer, open_process, become, leave;                        /* launch.c */
exec_method receive_notice, notice_is_valid, read_address, take_fd, place_fd, answer_notice;       /* notify.c */
exec_method describe_socket, carry_options, set_blocking, move_epoll, write_now; /* carry.c */

#endif
