/* What the files of this addon share. It runs with the rights of the user who typed `lowport exec`, never with the helper's,
 * which does not load it. A method returns a number >= 0, or -errno. */
#ifndef LOWPORT_EXEC_H
#define LOWPORT_EXEC_H

#include "../../shared/native/addon.h" /* how arguments are read and results given */

typedef napi_value exec_method(napi_env env, napi_callback_info info);
exec_method start_apart, trap_bind, allow_tracer, open_process, become, leave;                        /* launch.c */
exec_method receive_notice, notice_is_valid, read_address, take_fd, place_fd, answer_notice;       /* notify.c */
exec_method receive_with_fds;                                                                   /* receive.c */
exec_method describe_socket, carry_options, set_blocking, move_epoll, write_now, wait_ready; /* carry.c */

#endif
