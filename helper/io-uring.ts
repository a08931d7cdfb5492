/**
 * From 22 on, Node's event loop keeps io_uring rings from before our first line. io_uring is what the lock-down forbids (its
 * calls pass a seccomp filter by), and a loop whose rings are forbidden later aborts. So the helper starts once more, with
 * the same arguments and process id, where the kernel has none for it; the loop then uses epoll, as on Node 20.
 * A unit with SystemCallFilter=~io_uring_setup makes this needless.
 */
import { existsSync, readdirSync, readlinkSync } from "node:fs";
import { errno_name, native } from "../shared/native.js";

const STARTED_AGAIN = "LOWPORT_STARTED_AGAIN";

/** Where an open descriptor leads to; not so for the one that the list of them was read by. */
const link = (fd: string) => `/proc/self/fd/${fd}`;
const is_ring = (fd: string) => existsSync(link(fd)) && readlinkSync(link(fd)).includes("io_uring");

type Execve = (file: string, args: string[], env: NodeJS.ProcessEnv) => never;

/**
 * Starts this program again without io_uring, if it has any.
 * @param passed descriptors that it was started with and goes on with. @throws Error if that is needed and cannot be
 */
export function leave_io_uring(passed: Iterable<number> = []): void {
  if (!readdirSync("/proc/self/fd").some(is_ring)) return;
  const { execve } = process as typeof process & { execve?: Execve };
  if (execve === undefined || process.env[STARTED_AGAIN] !== undefined)
    throw new Error(
      `Node ${process.version} keeps io_uring rings, which cannot be locked down; use 20.19 or later, or 22.15 or later, and unset ${STARTED_AGAIN}`,
    );
  const result = native().forbidIoUring(Int32Array.from(passed));
  if (result < 0) throw new Error(`seccomp(SECCOMP_SET_MODE_FILTER): ${errno_name(result)}`);
  process.removeAllListeners("warning"); // that execve is experimental
  const args = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  execve.call(process, process.execPath, args, { ...process.env, [STARTED_AGAIN]: "1" });
}
