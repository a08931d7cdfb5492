/**
 * Whether the helper runs, as far as this user can see: by its answer, and if there is none by its socket, its pid file
 * (shared/pid-file.ts) and the process that this names.
 */
import { closeSync, constants, fstatSync, lstatSync, openSync, readFileSync, readSync } from "node:fs";
import type { Result } from "../shared/methods.js";
import { type PidFile, pid_file_of, read_pid_file } from "../shared/pid-file.js";
import { read_plain_config } from "../shared/plain-config.js";
import { DEFAULT_SOCKET } from "../shared/protocol.js";
import { find_missing_group, how_to_start } from "./advice.js";
import { connect } from "./connect.js";
import { LowportError } from "./errors.js";

/** running: it answers. */
export type Running = { readonly state: "running"; readonly pidFile: PidFile | undefined } & Result<"status">;

/**
 * stopped: no socket or nobody listening, and no process. stale: its pid file names a process that is gone, and whether it was
 * stopped cannot be seen. unreachable:
 * this user may not connect. hung: it is there and does not answer.
 */
export interface NotRunning {
  readonly state: "stopped" | "stale" | "unreachable" | "hung";
  readonly pidFile: PidFile | undefined;
  /** stopped or stale: what the process that is gone has left; it has no rights to remove it. */
  readonly left?: readonly string[];
  /** unreachable: the group whose members may connect. */
  readonly group?: string;
  /** Why: its message says what to do. */
  readonly error: { readonly code: string; readonly message: string };
}
export type State = Running | NotRunning;

/** Milliseconds that an answer may take. */
const ANSWER_MS = 5_000;
/** Milliseconds between two attempts. */
const RETRY_MS = 100;

/** Of the end of the audit log; the record of a stop is a fraction of it. */
const TAIL_BYTES = 65_536;

const sleep = (ms: number) => new Promise<void>((wake) => setTimeout(wake, ms));

function read_proc(pid: number, name: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/${name}`, "utf8");
  } catch {
    return undefined;
  }
}

/** What stands at a path: the kernel refuses a connection to a file in the same way as to a socket that nobody has. */
function what_is_at(path: string): "socket" | "nothing" | "something else" {
  try {
    return lstatSync(path).isSocket() ? "socket" : "something else";
  } catch {
    return "nothing";
  }
}

function explain_hung(pidFile: PidFile | undefined, path: string, message: string): string {
  if (what_is_at(path) === "nothing" && pidFile !== undefined)
    return `the lowport helper runs (pid ${pidFile.pid}), but its socket ${path} was removed; restart it`;
  if (pidFile?.alive !== true) return message;
  return /^State:\s+T/m.test(read_proc(pidFile.pid, "status") ?? "")
    ? `the lowport helper (pid ${pidFile.pid}) was stopped by a signal and does not answer; sudo kill -CONT ${pidFile.pid}`
    : `${message}; its process ${pidFile.pid} is there: look at its log, and restart it`;
}

/** Whether the last that the helper did was to end as it should, if this user may read that in the audit log. */
function was_stopped(path: string): boolean {
  const config = read_plain_config();
  if (config?.socket !== path) return false; // whose log is where is not known
  try {
    const fd = openSync(config.audit, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const stats = fstatSync(fd);
      if (!stats.isFile()) return false;
      const bytes = Buffer.alloc(Math.min(stats.size, TAIL_BYTES));
      const text = bytes.toString("utf8", 0, readSync(fd, bytes, 0, bytes.length, stats.size - bytes.length));
      return (JSON.parse(text.trimEnd().split("\n").at(-1) ?? "") as { event?: unknown }).event === "stop";
    } finally {
      closeSync(fd);
    }
  } catch {
    return false;
  }
}

/** What to make of a connection that did not come to be. */
function judge(path: string, { code, message, reason }: LowportError): NotRunning {
  const pidFile = read_pid_file(pid_file_of(path));
  const told = (text: string) => ({ code, message: text });
  if (code === "EACCES" || code === "EPERM") {
    const { group } = find_missing_group(path);
    const runs =
      pidFile?.alive === true ? `the lowport helper is running (pid ${pidFile.pid}), but out of reach: ` : "out of reach: ";
    return { state: "unreachable", pidFile, group, error: told(`${runs}${reason}`) };
  }
  if (code === "EAFNOSUPPORT") return { state: "unreachable", pidFile, error: told(`out of reach: ${reason}`) };
  if (code === "EDQUOT")
    return { state: "unreachable", pidFile, error: told(`the lowport helper is running, but out of reach: ${reason}`) };
  const answered_late = ["ETIMEDOUT", "EAGAIN", "EPROTO"].includes(code);
  if (answered_late || pidFile?.alive === true)
    return { state: "hung", pidFile, error: told(explain_hung(pidFile, path, message)) };
  if (what_is_at(path) === "something else")
    return { state: "stopped", pidFile, error: told(`${path} is no socket; move it away. ${how_to_start()}`) };
  if (pidFile === undefined) return { state: "stopped", pidFile, error: told(message) };
  const left = [pidFile.path, ...(what_is_at(path) === "socket" ? [path] : [])];
  const leaves = `has left ${left.join(" and ")}, which the next one takes over. ${how_to_start()}`;
  if (was_stopped(path))
    return { state: "stopped", pidFile, left, error: told(`the lowport helper is not running: it was stopped, and ${leaves}`) };
  const text = `the lowport helper is not running: its process ${pidFile.pid} is gone, stopped or failed, and ${leaves}`;
  return { state: "stale", pidFile, left, error: told(text) };
}

/** Asks once. @throws LowportError where there is no addon */
async function look(path: string, timeout: number): Promise<State> {
  try {
    const client = await connect({ socket: path, timeout });
    try {
      const answer = await client.call("status", {}, { timeout });
      return { state: "running", pidFile: read_pid_file(pid_file_of(path)), ...answer };
    } finally {
      client.close();
    }
  } catch (error) {
    if (!(error instanceof LowportError) || error.code === "ENOSYS") throw error;
    return judge(path, error);
  }
}

/**
 * Finds the helper.
 * @param path the control socket
 * @param wait seconds for which it is looked for again until it runs
 */
export async function find_helper(path = process.env["LOWPORT_SOCKET"] || DEFAULT_SOCKET, wait = 0): Promise<State> {
  const end = performance.now() + wait * 1000;
  for (;;) {
    const left = end - performance.now();
    const state = await look(path, wait === 0 ? ANSWER_MS : Math.max(RETRY_MS, Math.min(ANSWER_MS, left)));
    if (state.state === "running" || performance.now() + RETRY_MS > end) return state;
    await sleep(RETRY_MS);
  }
}
