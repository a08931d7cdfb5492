/**
 * The addon of `lowport exec` and its types. The helper never loads it: it is the client's alone. A call's result is a number
 * >= 0, or -errno. The calls themselves are described in ../native/*.c.
 */
import { message_of } from "../../shared/errors.js";
import { LowportError } from "../errors.js";
import { own_addon } from "../own-addon.js";

export interface ExecNative {
  startApart(argv: Uint8Array, env: Uint8Array): number;
  trapBind(): number;
  allowTracer(pid: number): number;
  openProcess(pid: number): number;
  become(argv: Uint8Array, env: Uint8Array, sockets: Int32Array, kept: Int32Array, state: Int32Array): number;
  leave(status: number): never;
  receiveNotice(listener: number, notice: Uint8Array): number;
  noticeIsValid(listener: number, notice: Uint8Array): number;
  readAddress(notice: Uint8Array, out: Uint8Array): number;
  takeFd(thread: number, process: number, fd: number): number;
  placeFd(listener: number, notice: Uint8Array, fd: number, number: number, closeOnExec: number): number;
  answerNotice(listener: number, notice: Uint8Array, error: number): number;
  describeSocket(fd: number, out: Int32Array): number;
  carryOptions(from: number, to: number): number;
  setBlocking(fd: number, blocking: 0 | 1): number;
  moveEpoll(words: Int32Array): number;
  writeNow(fd: number, bytes: Uint8Array): number;
  waitReady(fd: number, mask: number, ms: number): number;
  receiveWithFds(fd: number, bytes: Uint8Array, fds: Int32Array): number;
}

/** The addon, loaded at its first use. @throws LowportError ENOSYS that says how to build it */
export function exec_native(): ExecNative {
  try {
    return own_addon();
  } catch (error) {
    const cure =
      process.platform === "linux"
        ? "build it with `npm run build`, or install a lowport that was packed on this kind of machine"
        : "it exists on Linux only";
    throw new LowportError("ENOSYS", "exec", `its addon cannot be loaded (${message_of(error)}); ${cure}`, { cause: error });
  }
}
