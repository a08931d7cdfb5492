/** `lowport status`: whether the helper runs, and whom it takes this user for. */
import { EXIT } from "../../shared/protocol.js";
import { find_helper, type Running } from "../status.js";
import { define, read_number, SOCKET, take_words } from "./command.js";
import { FORBIDDEN } from "./exit.js";
import { count, duration, type Paint, paint_for, printable } from "./terminal.js";

/** Seconds: a day. */
const MAX_WAIT = 86_400;

export const command = define({
  summary: "is it running, and whom it takes me for",
  words: "",
  options: {
    wait: { type: "string", value: "SECONDS", help: "look again until it runs, or the time is over" },
    ...SOCKET,
  },
  about:
    "It is running, stopped, stale (its process is gone and has left its files), unreachable (out of reach for this user; it says\nwhich group is missing) or hung.",
  examples: [
    ["lowport status", "whether it runs"],
    ["lowport status --wait 30", "in a script: go on as soon as it serves"],
  ],
  async run(words, { wait, socket }) {
    take_words(words, 0, 0);
    const data = await find_helper(socket, wait === undefined ? 0 : read_number(wait, "--wait", MAX_WAIT));
    if (data.state === "running") return { data, text: describe_running(data, paint_for()), exit: EXIT.ok };
    const exit = FORBIDDEN.has(data.error.code) ? EXIT.noPermission : EXIT.unreachable;
    return { data, text: data.error.message, exit, complains: true };
  },
});

/** A running helper as text. */
function describe_running({ you, pidFile, ...data }: Running, paint: Paint): string {
  const file =
    pidFile === undefined || pidFile.pid === data.pid
      ? []
      : [`${pidFile.path} names process ${pidFile.pid} and not the one that answers; a restart writes it anew`];
  const load = `${count(data.connections, "connection")}, ${count(data.leases, "lease")}, audit record ${data.auditSeq}`;
  return [
    `lowport ${printable(data.version)} is ${paint("green", "running")}: pid ${data.pid}, up ${duration(data.uptimeSeconds)}, ${load}`,
    `policy loaded at ${printable(data.policyLoadedAt)}`,
    ...file,
    `you are uid ${you.uid}, gid ${you.gid}, groups ${you.groups.join(", ") || "none"}${you.operator ? ", an operator" : ""}`,
  ].join("\n");
}
