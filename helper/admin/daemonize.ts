/**
 * `lowportd run --daemon`: what daemon(7) asks of a SysV daemon, done from outside, because Node cannot fork and the helper
 * shall know no second way to start. The launcher starts a shell in a session of its own (setsid), and the shell starts
 * the helper, which so is no session leader and can never get a terminal (the second fork). When the helper serves, it says
 * so on a pipe; the launcher ends the shell, which makes the helper a child of PID 1, and only then itself. The shell waits
 * for a helper that fails, so that its exit code comes back; helper/DAEMON.md goes through the list of daemon(7).
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, readdirSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { NODE_FLAGS } from "../../shared/node-flags.js";
import { pid_file_of } from "../../shared/pid-file.js";
import { DEFAULT_CONFIG, EXIT } from "../../shared/protocol.js";
import { die, step } from "../command-line.js";
import { read_options } from "./arguments.js";
import { load_first_config } from "./check-config.js";

/** Milliseconds that the helper may take until it serves; it takes a tenth of a second. */
const LIMIT_MS = 30_000;
/** All that the helper finds in its environment. */
const ENVIRONMENT = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" };
/** Where the helper writes its process id when it serves. */
const READY_FD = 3;
/** open(2), O_CLOEXEC, as /proc/PID/fdinfo/FD shows it (proc(5)). */
const O_CLOEXEC = 0o2000000;
/** What a shell adds to the number of the signal that killed its child. */
const KILLED = 128;

/** How a start ended: the helper serves, or an exit code and why. */
export type Started = { readonly pid: number } | { readonly code: number; readonly why: string | undefined };

/** Closes what this process was started with besides 0, 1 and 2. Node marks its own, and the first 16, close-on-exec. */
function close_inherited(): void {
  for (const fd of readdirSync("/proc/self/fd").map(Number)) {
    if (fd <= 2) continue;
    try {
      const flags = /^flags:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1];
      if ((Number.parseInt(flags ?? "", 8) & O_CLOEXEC) === 0) closeSync(fd);
    } catch {
      // The one that this listing was read by.
    }
  }
}

/** All of the session that the launcher has made: the shell, and the helper if it is still in its process group. */
function kill_all(shell: ChildProcess): void {
  try {
    process.kill(-(shell.pid as number), "SIGKILL");
  } catch {
    // Nobody is left.
  }
}

/** The first line of a stream; undefined if it ends before. */
async function read_line(stream: Readable): Promise<string | undefined> {
  let text = "";
  for await (const chunk of stream.setEncoding("utf8")) {
    text += chunk;
    if (text.includes("\n")) return text.slice(0, text.indexOf("\n"));
  }
  return undefined;
}

function how_it_ended(code: number | null): Started {
  if (code === EXIT.ok) return { code: EXIT.refused, why: "the helper ended before it served" };
  if (code === null || code > KILLED)
    return {
      code: EXIT.refused,
      why: `the helper was killed before it served${code === null ? "" : ` (signal ${code - KILLED})`}`,
    };
  return { code, why: undefined };
}

/**
 * Runs `command` as a daemon. It must write its process id and a newline to descriptor 3 when it serves, and let go of
 * descriptor 2; what it writes there before goes to this process's own.
 * @param limit milliseconds until all is killed again
 */
export async function launch(command: readonly string[], limit = LIMIT_MS): Promise<Started> {
  close_inherited();
  process.stderr.on("error", () => undefined); // nobody reads it
  const shell = spawn("/bin/sh", ["-c", '"$@" & wait $!', "sh", ...command], {
    cwd: "/",
    detached: true,
    env: ENVIRONMENT,
    stdio: ["ignore", "ignore", "pipe", "pipe"],
  });
  const ended = once(shell, "close") as Promise<[number | null]>;
  shell.stderr?.pipe(process.stderr, { end: false });

  let gave_up: string | undefined;
  const give_up = (why: string) => {
    gave_up = why;
    kill_all(shell);
  };
  const timer = setTimeout(give_up, limit, `the helper did not serve within ${limit / 1000} s, and was killed`);
  const interrupted = (signal: string) => give_up(`${signal}: the helper was killed before it served`);
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, interrupted);
  try {
    const pid = Number(await read_line(shell.stdio[READY_FD] as Readable));
    const serves = Number.isInteger(pid) && pid > 0;
    if (serves) shell.kill("SIGKILL"); // it alone: what it waited for is now a child of PID 1
    const [code] = await ended; // and nobody holds our pipes any more
    if (gave_up !== undefined) return { code: EXIT.refused, why: gave_up };
    return serves ? { pid } : how_it_ended(code);
  } finally {
    clearTimeout(timer);
    for (const signal of ["SIGINT", "SIGTERM"]) process.off(signal, interrupted);
  }
}

const OPTIONS = {
  daemon: { type: "boolean", default: false },
  config: { type: "string", default: DEFAULT_CONFIG },
  "pid-file": { type: "string" },
} as const;

/** Ends the process: 0 when the helper serves, or with the code that the helper failed with. */
export async function start_daemon(args: readonly string[]): Promise<never> {
  const { config: given, "pid-file": pidFile } = read_options(args, OPTIONS, ["ready-fd", "syslog"]);
  const file = resolve(given);
  if (process.getuid?.() !== 0) die(EXIT.noPermission, "lowportd: must be started as root; it gives that up itself (try sudo)");
  const { socket } = step(EXIT.config, file, () => load_first_config(file));
  const pid_file = pidFile === undefined ? pid_file_of(socket.path) : resolve(pidFile);
  const flags = NODE_FLAGS.filter((flag) => !process.execArgv.includes(flag));
  const main = fileURLToPath(new URL("../main.cjs", import.meta.url));
  const run = ["run", "--config", file, "--pid-file", pid_file, "--ready-fd", String(READY_FD), "--syslog"];
  const started = await launch([process.execPath, ...process.execArgv, ...flags, main, ...run]);
  if ("pid" in started) process.exit(EXIT.ok);
  if (started.why === undefined) process.exit(started.code);
  die(started.code, `lowportd: ${started.why}`);
}
