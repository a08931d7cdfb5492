/**
 * Sockets that a parent passed by the LISTEN_FDS protocol (sd_listen_fds(3)): from descriptor 3 on, if LISTEN_PID is ours.
 */
import { native } from "../shared/native.js";

const FIRST_FD = 3;
const used = new Set<number>();

/**
 * Takes the inherited socket that fits, each only once.
 * @param address canonical IP address, or undefined if any will do
 * @returns its descriptor, or undefined
 */
export function take_inherited(stream: boolean, port: number, address: string | undefined): number | undefined {
  if (process.env["LISTEN_PID"] !== String(process.pid) || process.platform !== "linux") return undefined;
  const count = Number(process.env["LISTEN_FDS"]);
  if (!Number.isSafeInteger(count) || count < 1) return undefined;
  for (let fd = FIRST_FD; fd < FIRST_FD + count; fd++) {
    if (used.has(fd)) continue;
    const info = native().socketInfo(fd);
    if (typeof info === "number") continue;
    const [is_stream, listening, its_port, its_address] = info;
    if ((is_stream === 1) !== stream || (stream && listening !== 1) || its_port !== port) continue;
    if (address !== undefined && address !== its_address) continue;
    used.add(fd);
    return fd;
  }
  return undefined;
}
