/**
 * What one bind(2) of the program asks for, judged on a copy. The program's memory is read once; whatever another of its
 * threads writes there afterwards changes nothing: the helper is asked for what the copy says, records that and grants that.
 *
 * All else is left to the kernel ("continue"), which then reads the address anew. That gives nothing away, although the address
 * may be another by then: the kernel decides with the program's own rights, so a program gains by this only what it could
 * have had without lowport. Nor does the helper's answer add to anyone's rights: it is about the user, who may ask by himself.
 * What could do harm is to ask for somebody else, and so a thread that is not exactly the supervisor's user, or whose socket
 * is in another network, is never asked for.
 */
import { closeSync, fstatSync, readFileSync, statSync } from "node:fs";
import { constants } from "node:os";
import { errno_name } from "../../shared/native.js";
import { LowportError } from "../errors.js";
import type { BoundSocket } from "../types.js";
import { exec_native } from "./native.js";
import { read_status } from "./processes.js";

/** A bind that the kernel would refuse and the helper may grant. */
export interface Asked {
  readonly notice: Uint8Array;
  readonly thread: number;
  readonly process: number;
  /** The program's descriptor, and one here for the same socket, which is the caller's to close. */
  readonly number: number;
  readonly own: number;
  readonly inode: number;
  readonly protocol: "tcp" | "udp";
  readonly address: string;
  readonly port: number;
  readonly ipv6Only: boolean;
  readonly reusePort: boolean;
  readonly blocking: boolean;
  readonly name: string;
}

/** Left to the kernel too, which will refuse it. */
export interface Hopeless {
  /** What the helper cannot be asked for. */
  readonly because: string;
}

/** continue: the kernel decides. gone: nobody waits any more. blind: this process may not look into that one. */
export type Judgement = Asked | Hopeless | "continue" | "gone" | "blind";

/** struct seccomp_notif: where its members stand. */
const NOTICE = { bytes: 80, pid: 8, fd: 32, length: 48 };
/** sizeof(struct sockaddr_storage): bind(2) takes no more. */
const MAX_ADDRESS_BYTES = 128;
const AF = { unspec: 0, inet: 2, inet6: 10 };
const SOCKADDR_BYTES: Readonly<Record<number, number>> = { [AF.inet]: 16, [AF.inet6]: 24 };
const CAP_NET_BIND_SERVICE = 1n << 10n;
/** socket(2): 262 is MPTCP, whose clients speak TCP to a socket that does not. */
const PROTOCOLS: Readonly<Record<string, "tcp" | "udp">> = {
  "1/0": "tcp",
  "1/6": "tcp",
  "1/262": "tcp",
  "2/0": "udp",
  "2/17": "udp",
};
/** Others whose low ports take the capability. */
const UNKNOWN_TO_THE_HELPER: Readonly<Record<number, string>> = { 33: "DCCP", 132: "SCTP", 136: "UDP-Lite" };
const { EPERM, EACCES } = constants.errno;

/** A place for a notice; `exec_native().receiveNotice` fills it. */
export const empty_notice = () => new Uint8Array(NOTICE.bytes);

const view = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const LITTLE = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** The thread that called. Its number is from the kernel. */
export const thread_of = (notice: Uint8Array) => view(notice).getUint32(NOTICE.pid, LITTLE);

/** An IPv6 address in its usual form. What knows it is loaded only if need be: it takes a Node that compiles nothing 7 ms. */
function shorten(groups: string): string {
  if (groups === "0:0:0:0:0:0:0:0") return "::";
  const { SocketAddress } = process.getBuiltinModule("node:net");
  return new SocketAddress({ address: groups, family: "ipv6" }).address;
}

/** An IP address and port as bind(2) takes them; undefined if it is something else. */
export function parse_address(bytes: Uint8Array): { family: number; address: string; port: number; scope: number } | undefined {
  if (bytes.length < 2) return undefined;
  const data = view(bytes);
  const named = data.getUint16(0, LITTLE);
  // Old programs leave it out where they mean all addresses, and the kernel lets them (ip(7), inet_bind).
  const family = named === AF.unspec && bytes.length >= 8 && data.getUint32(4) === 0 ? AF.inet : named;
  if (bytes.length < (SOCKADDR_BYTES[family] ?? Number.POSITIVE_INFINITY)) return undefined;
  const port = data.getUint16(2);
  if (family === AF.inet) return { family, address: bytes.subarray(4, 8).join("."), port, scope: 0 };
  const groups = Array.from({ length: 8 }, (_, i) => data.getUint16(8 + 2 * i).toString(16));
  return { family, address: shorten(groups.join(":")), port, scope: bytes.length >= 28 ? data.getUint32(24, LITTLE) : 0 };
}

/** From which port on the kernel asks for no capability, in this process's network. */
function first_free_port(): number {
  try {
    return Number(readFileSync("/proc/sys/net/ipv4/ip_unprivileged_port_start", "utf8"));
  } catch {
    return 1024;
  }
}

function same_file(one: string, two: string): boolean {
  try {
    const [a, b] = [statSync(one), statSync(two)];
    return a.ino === b.ino && a.dev === b.dev;
  } catch {
    return false;
  }
}

/** Whether a socket is of a kind that no port belongs to; only to know whether there is something to complain about. */
function has_no_port(inode: number): boolean {
  return ["unix", "netlink"].some((table) => {
    try {
      return new RegExp(`\\s${inode}(\\s|$)`, "m").test(readFileSync(`/proc/net/${table}`, "utf8"));
    } catch {
      return false;
    }
  });
}

let network: string | undefined;

/** The network namespace of a socket, as the number that it tells; "0/0" before Linux 5.14. */
function network_of(fd: number): string | undefined {
  const out = new Int32Array(9);
  return exec_native().describeSocket(fd, out) === 0 ? `${out[6]}/${out[7]}` : undefined;
}

/**
 * Gives a granted socket back if it is not of the program's network: the helper's need not be, and the program may have been put
 * into one of its own on purpose. @param own any socket of the program's. @throws LowportError
 */
export function require_same_network(socket: BoundSocket, own: number): void {
  if (network_of(socket.fd) === network_of(own)) return;
  void socket.release();
  throw new LowportError("EACCES", "bind", "the helper is in another network than this program; it cannot bind in this one");
}

/** Notes the network namespace of this process. @param fd any socket of this process */
export function remember_network(fd: number): void {
  network = network_of(fd);
}

/** What this user is, in the words of /proc, so that each thread's can be compared with it. */
const own_status = () => read_status("self");

function cannot_look(thread: number, number: number): Judgement {
  try {
    return has_no_port(statSync(`/proc/${thread}/fd/${number}`).ino) ? "continue" : "blind";
  } catch {
    return "blind";
  }
}

/** Judges the notice that `listener` gave. */
export function judge(listener: number, notice: Uint8Array): Judgement {
  const native = exec_native();
  const thread = thread_of(notice);
  const number = view(notice).getInt32(NOTICE.fd, LITTLE);
  const bytes = new Uint8Array(MAX_ADDRESS_BYTES);
  if (view(notice).getInt32(NOTICE.length, LITTLE) > bytes.length) return "continue"; // EINVAL, says the kernel
  const got = native.readAddress(notice, bytes);
  if (got === -EPERM || got === -EACCES) return cannot_look(thread, number);
  // A part of what was announced could not be read: the kernel says EFAULT.
  if (got < view(notice).getInt32(NOTICE.length, LITTLE)) return "continue";
  const wanted = parse_address(bytes.subarray(0, got));
  if (wanted === undefined || wanted.port === 0 || wanted.port >= first_free_port()) return "continue";
  const status = read_status(thread);
  const own = own_status();
  if (status === undefined || own === undefined) return "continue";
  const has_capability = (status.capabilities & CAP_NET_BIND_SERVICE) !== 0n;
  if (status.identity !== own.identity)
    return has_capability || !same_file(`/proc/${thread}/ns/net`, "/proc/self/ns/net")
      ? "continue"
      : { because: "of another user or group than the one that lowport exec was started by" };
  // In a user namespace of its own its capabilities say nothing about this network.
  if (has_capability && same_file(`/proc/${thread}/ns/user`, "/proc/self/ns/user")) return "continue";
  const fd = native.takeFd(thread, status.process, number);
  if (fd < 0) return errno_name(fd) === "EPERM" ? "blind" : "continue";
  const judgement = judge_socket(fd, thread, number, wanted);
  const valid = native.noticeIsValid(listener, notice) === 0;
  if (!valid || judgement === "continue" || "because" in judgement) {
    closeSync(fd);
    return valid ? (judgement as "continue" | Hopeless) : "gone";
  }
  const { address, port } = wanted;
  return { notice, thread, process: status.process, number, own: fd, address, port, name: status.name, ...judgement };
}

type OfSocket = Pick<Asked, "inode" | "protocol" | "ipv6Only" | "reusePort" | "blocking">;

function judge_socket(
  fd: number,
  thread: number,
  number: number,
  wanted: { family: number; scope: number },
): OfSocket | Hopeless | "continue" {
  const out = new Int32Array(9);
  const { ino: inode } = fstatSync(fd);
  if (exec_native().describeSocket(fd, out) < 0 || !same_file(`/proc/${thread}/fd/${number}`, `/proc/self/fd/${fd}`))
    return "continue";
  const [domain, type, kind, ipv6Only, reusePort, port, ...rest] = out;
  const protocol = PROTOCOLS[`${type}/${kind}`];
  if (domain !== wanted.family || port !== 0) return "continue";
  // Before Linux 5.14 sockets do not tell their network (0): then that of the thread must be ours.
  if (network !== `${rest[0]}/${rest[1]}`) return "continue";
  if (network === "0/0" && !same_file(`/proc/${thread}/ns/net`, "/proc/self/ns/net")) return "continue";
  const unknown = UNKNOWN_TO_THE_HELPER[kind as number];
  if (protocol === undefined)
    return unknown === undefined ? "continue" : { because: `of ${unknown}, and the helper has TCP and UDP` };
  // A link-local address counts with its interface, which the protocol cannot say.
  if (wanted.scope !== 0) return { because: "of an address with a scope (its interface), which the helper does not know" };
  return { inode, protocol, ipv6Only: ipv6Only === 1, reusePort: reusePort === 1, blocking: rest[2] === 0 };
}
