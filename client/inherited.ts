/**
 * Sockets that a parent passed by the LISTEN_FDS protocol (sd_listen_fds(3)): from descriptor 3 on, if LISTEN_PID is ours.
 */
import { errno_name, has_native, native } from "../shared/native.js";

const FIRST_FD = 3;
const used = new Set<number>();

/** What an inherited socket must be. */
export interface Fit {
  readonly stream: boolean;
  readonly port: number;
  /** IP address; undefined if any will do. */
  readonly address: string | undefined;
  readonly family?: 4 | 6 | undefined;
  readonly ipv6Only?: boolean | undefined;
}

/** How many sockets this process was started with. */
export function inherited_count(): number {
  if (process.env["LISTEN_PID"] !== String(process.pid) || !has_native()) return 0;
  const count = Number(process.env["LISTEN_FDS"]);
  return Number.isSafeInteger(count) && count > 0 ? count : 0;
}

const family_of = (address: string) => (address.includes(":") ? 6 : 4);

function same_address(a: string, b: string): boolean {
  const { SocketAddress } = process.getBuiltinModule("node:net"); // only here, because it takes time to load
  const canonical = (address: string) => new SocketAddress({ address, family: `ipv${family_of(address)}` }).address;
  return canonical(a) === canonical(b);
}

/** Takes the inherited socket that fits, each only once. @returns its descriptor, or undefined */
export function take_inherited({ stream, port, address, family, ipv6Only }: Fit): number | undefined {
  for (let fd = FIRST_FD; fd < FIRST_FD + inherited_count(); fd++) {
    if (used.has(fd)) continue;
    const info = native().socketInfo(fd);
    if (typeof info === "number" && errno_name(info) === "EBADF") return undefined; // there are fewer than was said
    if (typeof info === "number") continue;
    const [is_stream, listening, its_port, its_address, its_ipv6Only] = info;
    if ((is_stream === 1) !== stream || (stream && listening !== 1) || its_port !== port) continue;
    if (address !== undefined && !same_address(address, its_address)) continue;
    if (family !== undefined && family !== family_of(its_address)) continue;
    if (ipv6Only !== undefined && family_of(its_address) === 6 && ipv6Only !== (its_ipv6Only === 1)) continue;
    used.add(fd);
    return fd;
  }
  return undefined;
}
