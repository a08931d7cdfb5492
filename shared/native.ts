/**
 * The addon's loader and its types. It is looked for in shared/ and nowhere else: no environment variable, no search.
 * A call's result is a number >= 0, or -errno (`os.constants.errno`). The calls themselves are described in native/*.c.
 */
import { getSystemErrorName } from "node:util";
import { message_of } from "./errors.js";

/** [1 if TCP else 0, 1 if listening, port, address, 1 if IPv6 only] */
export type SocketInfo = [stream: number, listening: number, port: number, address: string, ipv6Only: number];

export interface Native {
  bindSocket(stream: boolean, address: string, port: number, ipv6Only: boolean, reusePort: boolean, backlog: number): number;
  socketInfo(fd: number): SocketInfo | number;
  revokeSocket(fd: number): number;
  lockFile(fd: number): number;
  appendText(fd: number, text: string): number;
  sha256(text: string): string | number;
  openUnix(path: string, backlog: number): number;
  acceptUnix(fd: number): number;
  /** Count of [pid, uid, gid, ...supplementary groups], as many as fit, at the time of connect(); ids as int32. */
  peerCredentials(fd: number, out: Int32Array): number;
  receive(fd: number, bytes: Uint8Array): number;
  send(fd: number, bytes: Uint8Array, fds: Int32Array, fdCount: number): number;
  pollStart(call: () => void, instead: boolean): Int32Array;
  pollWatch(fd: number, mask: number): number;
  pollRef(keep: boolean): number;
  forbidIoUring(fds: Int32Array): number;
  lockDown(uid: number, gid: number, asRoot: boolean): void;
}

/** The most descriptors that one message can carry (SCM_MAX_FD, unix(7)). */
export const MAX_FDS = 253;

/** As `require` loads it, but without the search for it, which takes longer. @throws Error that says how to build it */
function load_native(): Native {
  try {
    const addon = { exports: {} };
    process.dlopen(addon, `${import.meta.dirname}/../shared/native/lowport.node`);
    return addon.exports as Native;
  } catch (error) {
    throw new Error(
      `lowport: its addon cannot be loaded (${message_of(error)}). ` +
        (process.platform === "linux"
          ? "Build it with `npm run build`, or install a lowport that was packed on this kind of machine."
          : "It exists on Linux only."),
      { cause: error },
    );
  }
}

let loaded: Native | undefined;

/** The addon, loaded at its first use. @throws Error that says how to build it */
export function native(): Native {
  loaded ??= load_native();
  return loaded;
}

/** Whether there is an addon: not elsewhere than on Linux, and not where it was not built. */
export function has_native(): boolean {
  try {
    return native() !== undefined;
  } catch {
    return false;
  }
}

/** The name of a call's -errno result: `errno_name(-13)` is "EACCES". */
export const errno_name = getSystemErrorName;
