/**
 * The pid file, lowport.pid beside the control socket, as whoever looks for the helper reads it. It is believed only if the
 * process that it names exists and is a lowport helper: a number that is left behind may long be another program's.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync, readSync } from "node:fs";
import { dirname, join } from "node:path";

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

/** Whether a process exists and is, as far as this user can see, a lowport helper. */
export function is_helper(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return false;
  }
  let command: string;
  try {
    command = readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return true; // hidden from this user (hidepid, proc(5)): then it is believed
  }
  // One that has ended and is not reaped has none.
  return command.split("\0").some((word) => /(^|\/)(helper\/main\.js|lowportd)$/.test(word));
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
