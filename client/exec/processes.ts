/**
 * What /proc tells about the program's processes: who they are, and which of them has a socket. Every answer may be out of
 * date when it is given; callers either have the kernel confirm it (noticeIsValid) or do nothing that harms if it is wrong.
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { errno_of } from "../../shared/errors.js";

export interface Status {
  /** The thread's process. */
  readonly process: number;
  /** Of that process. */
  readonly parent: number;
  /** Its command's name. */
  readonly name: string;
  /** All its user and group ids, as text. */
  readonly identity: string;
  /** Effective. */
  readonly capabilities: bigint;
  /** Real. */
  readonly uid: number;
  /** It has a system call filter, as all processes of the program have. */
  readonly filtered: boolean;
  /** It has ended, and waits for its parent to know. */
  readonly dead: boolean;
}

/** A process or thread; undefined if it is gone. */
export function read_status(id: number | "self"): Status | undefined {
  try {
    const text = readFileSync(`/proc/${id}/status`, "utf8");
    const line = (name: string) => new RegExp(`^${name}:[ \\t]*(.*)$`, "m").exec(text)?.[1]?.trim() ?? "";
    return {
      process: Number(line("Tgid")),
      parent: Number(line("PPid")),
      name: line("Name"),
      identity: ["Uid", "Gid", "Groups"].map(line).join("/"),
      capabilities: BigInt(`0x${line("CapEff")}`),
      uid: Number.parseInt(line("Uid"), 10),
      filtered: line("Seccomp") === "2",
      dead: /^[ZX]/.test(line("State")),
    };
  } catch {
    return undefined;
  }
}

/** Where a process has a descriptor. */
export interface Place {
  readonly process: number;
  readonly number: number;
}

/** What a descriptor of a process or thread is, as `ls -l /proc/ID/fd` shows it. */
export function link_of(id: number, number: number): string | undefined {
  try {
    return readlinkSync(`/proc/${id}/fd/${number}`);
  } catch {
    return undefined;
  }
}

const O_CLOEXEC = 0o2000000;

/** A descriptor's fdinfo (proc(5)); "" if it is gone. */
export function fdinfo_of(id: number | "self", number: number): string {
  try {
    return readFileSync(`/proc/${id}/fdinfo/${number}`, "utf8");
  } catch {
    return "";
  }
}

/** A member of an fdinfo. */
export const from_fdinfo = (text: string, name: string) => new RegExp(`^${name}:\\s*(\\d+)`, "m").exec(text)?.[1] ?? "0";

/** Whether a descriptor closes at execve(2). */
export const closes_on_exec = (fdinfo: string) => (Number.parseInt(from_fdinfo(fdinfo, "flags"), 8) & O_CLOEXEC) !== 0;

/** Numbers of the descriptors of a process or thread; none if it is gone, undefined if it may not be looked into. */
export function numbers_of(id: number): number[] | undefined {
  try {
    return readdirSync(`/proc/${id}/fd`).map(Number);
  } catch (error) {
    return errno_of(error) === "EACCES" || errno_of(error) === "EPERM" ? undefined : [];
  }
}

export const socket_link = (inode: number) => `socket:[${inode}]`;

export const has_socket = ({ process, number }: Place, inode: number) => link_of(process, number) === socket_link(inode);

/** The nearest parent of a process that has the socket where the process had it, as fork(2) leaves it; in the program. */
export function find_parent_with({ process, number }: Place, inode: number): Status | undefined {
  for (let one = read_status(process); one !== undefined; ) {
    one = read_status(one.parent);
    if (one?.filtered !== true) return undefined;
    if (has_socket({ process: one.process, number }, inode)) return one;
  }
  return undefined;
}

/** Of a process that may not be looked into. */
const SOMEWHERE = -1;

/**
 * Looks for processes of this user, other than this one, that have the sockets: all of them in one pass, because it takes
 * milliseconds. One that may not be looked into is taken for the holder of what nobody else has, if it could be of the program.
 */
export function find_holders(inodes: readonly number[]): Map<number, Place> {
  const uid = process.getuid?.();
  const links = new Map(inodes.map((inode) => [socket_link(inode), inode]));
  const found = new Map<number, Place>();
  let hidden: Place | undefined;
  for (const id of readdirSync("/proc").map(Number)) {
    if (found.size === links.size) break;
    if (!Number.isInteger(id) || id === process.pid) continue;
    const status = read_status(id);
    if (status === undefined || status.uid !== uid || status.dead) continue;
    const numbers = numbers_of(id);
    for (const number of numbers ?? []) {
      const inode = links.get(link_of(id, number) ?? "");
      if (inode !== undefined) found.set(inode, { process: id, number });
    }
    if (numbers === undefined && status.filtered) hidden ??= { process: id, number: SOMEWHERE };
  }
  if (hidden !== undefined) for (const inode of links.values()) if (!found.has(inode)) found.set(inode, hidden);
  return found;
}
