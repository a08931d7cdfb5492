/**
 * The pid file, lowport.pid beside the control socket, as whoever looks for the helper reads it. It is believed only if the
 * process that it names exists and is a lowport helper: a number that is left behind may long be another program's.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync, readSync } from "node:fs";
import { dirname, join } from "node:path";
import { read_plain_config } from "./plain-config.js";

/** A pid file has one number. */
const MAX_PID_BYTES = 32;

/** What a pid file says. */
export interface PidFile {
  readonly path: string;
  readonly pid: number;
  /** Such a process exists and is a lowport helper. */
  readonly alive: boolean;
}

/** Where the pid file of the helper with that control socket is. */
export const pid_file_of = (socket: string): string => join(dirname(socket), "lowport.pid");

function read_proc(pid: number, name: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/${name}`, "utf8");
  } catch {
    return undefined;
  }
}

/** A user's id, from /etc/passwd; undefined if it stands elsewhere (LDAP). */
function find_uid(user: string): string | undefined {
  if (/^[0-9]+$/.test(user)) return user;
  try {
    const entries = readFileSync("/etc/passwd", "utf8")
      .split("\n")
      .map((line) => line.split(":"));
    return entries.find(([name]) => name === user)?.[2];
  } catch {
    return undefined;
  }
}

/** The file that a command line names as its configuration; the helper's own is an absolute path. */
function config_of(words: readonly string[]): string | undefined {
  const at = words.findIndex((word) => /^--config(=|$)/.test(word));
  const file = words[at] === "--config" ? words[at + 1] : words[at]?.slice("--config=".length);
  return file?.startsWith("/") === true ? file : undefined;
}

/**
 * Whether a process exists and is, as far as this user can see, a lowport helper: by its command line, which any process can have,
 * and by its user, who is root while it starts and then the one that its configuration names.
 */
export function is_helper(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return false;
  }
  const words = read_proc(pid, "cmdline")?.split("\0");
  if (words === undefined) return true; // hidden from this user (hidepid, proc(5)): then it is believed
  // One that has ended and is not reaped has none.
  if (!words.some((word) => /(^|\/)(helper\/main\.cjs|lowportd)$/.test(word))) return false;
  const ids = /^Uid:\s+(.*)$/m.exec(read_proc(pid, "status") ?? "")?.[1]?.split(/\s+/);
  const config = read_plain_config(config_of(words));
  const uid = config === undefined ? undefined : find_uid(config.user);
  if (ids === undefined || uid === undefined) return true; // who it should be cannot be told
  return ids.every((id) => id === "0") || ids.every((id) => id === uid);
}

/** @returns undefined if there is no such regular file, or no number in it */
export function read_pid_file(path: string): PidFile | undefined {
  try {
    const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      if (!fstatSync(fd).isFile()) return undefined;
      const bytes = Buffer.alloc(MAX_PID_BYTES);
      const text = bytes.toString("latin1", 0, readSync(fd, bytes));
      const pid = /^[1-9][0-9]{0,9}\n?$/.test(text) ? Number(text) : undefined;
      return pid === undefined ? undefined : { path, pid, alive: is_helper(pid) };
    } finally {
      closeSync(fd);
    }
  } catch {
    return undefined;
  }
}
