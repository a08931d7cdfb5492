/** `lowport exec` as the other commands see it: what it takes, and its help. */
import { FOR_ALL, type RawCommand, SOCKET } from "../command/command.js";

export const command: RawCommand = {
  summary: "run a program that gets its privileged ports from the helper",
  words: "[--] PROGRAM [ARGUMENT...]",
  options: {
    hold: {
      type: "string",
      value: "SECONDS",
      help: "the helper keeps the listeners that long when the program has ended, for its next start",
    },
    listen: {
      type: "string",
      value: "PROTOCOL:PORT[@ADDRESS]",
      multiple: true,
      help: "pass that socket as LISTEN_FDS (sd_listen_fds(3)), from descriptor 3 on",
    },
    ...SOCKET,
    help: FOR_ALL.help,
  },
  about: `Any program, in any language: a bind that the kernel would refuse goes to the helper, all else is untouched. The program has its
own process id, terminal, signals and exit status; setuid programs gain no rights in it, 32-bit programs are not served, and
where Yama restricts ptrace its children are not. With --listen it starts with those sockets and has none of these limits, and
what else it binds is the kernel's alone. Options stand before PROGRAM: what follows it is the program's. lowport(1) has more,
and a systemd unit. Exit: the program's; 126 it cannot be executed, 127 there is none; 64 usage; 70 exec cannot work here; and
only with --listen, for without it a refused bind is EACCES to the program: 1 refused, 69 helper not reachable, 77 no permission.`,
  examples: [
    ["lowport exec --hold 30 -- python3 -m http.server 80", "a web server, whose listener outlives a restart of it"],
    ["lowport exec --listen tcp:443 --listen udp:53@192.0.2.1 -- PROGRAM", "a program that takes sockets as systemd passes them"],
  ],
  async take(words) {
    const { run_exec } = await import("./launch.js");
    return run_exec(words);
  },
};
