/**
 * The first thing that the helper imports. Until a program listens to SIGUSR1, Node answers it by opening a debugger on a
 * port of 127.0.0.1, and a rotation that signals a starting helper would so let every local user run code as root. What is
 * left is the time before our first line: --inspect-publish-uid=stderr keeps the debugger's address from being asked for,
 * and a helper that finds one open ends. Signals that come before the helper serves are kept until it does.
 */
import { readdirSync } from "node:fs";
import { has_native, native, type SocketInfo } from "../shared/native.js";

/** What the signals do that do not stop the helper. */
export const act = { SIGHUP: (): void => undefined, SIGUSR1: (): void => undefined };

for (const signal of ["SIGHUP", "SIGUSR1"] as const) process.on(signal, () => act[signal]());

/** As each debugger does. */
const listens = (fd: string) => (native().socketInfo(Number(fd)) as SocketInfo)[1] === 1;

/** Node is asked only where there may be one, because that loads what takes 2 ms. @throws Error if somebody could attach one */
export function refuse_debugger(): void {
  if (has_native() && !readdirSync("/proc/self/fd").some(listens)) return;
  if (process.getBuiltinModule("node:inspector").url() !== undefined)
    throw new Error("a debugger is open, which could run anything as root; start again without --inspect and SIGUSR1");
}
