/**
 * What /proc tells about the program's processes: who they are, and which of them has a socket. Every answer may be out of
 * date when it is given; callers either have the kernel confirm it (noticeIsValid) or do nothing that harms if it is wrong.
 */
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
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
  /** It has ended. The first thread of a process stays until all have. */
  readonly ended: boolean;
  /** Of that process. */
  readonly threads: number;
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
      ended: /^[ZX]/.test(line("State")),
      threads: Number(line("Threads")),
    };
  } catch {
    return undefined;
  }
}

/** Where a process, or one thread that has a table of its own, has a descriptor. */
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

function list(folder: string): number[] {
  try {
    return readdirSync(folder).map(Number).filter(Number.isInteger);
  } catch {
    return []; // it has ended
  }
}

interface Table {
  /** The process, or one of its threads. */
  readonly id: number;
  readonly filtered: boolean;
  /** Numbers of descriptors; undefined if it may not be looked into. */
  readonly numbers: readonly number[] | undefined;
  /** Another thread of this process has the same numbers: most likely it is the same table. */
  readonly known: boolean;
}

/**
 * The tables of descriptors of this user's processes, other than this one. A process has one, which its first thread tells, as
 * long as that lives; but threads of the program may have made some of their own (unshare(2) with CLONE_FILES).
 */
function* tables(): Generator<Table> {
  const uid = process.getuid?.();
  for (const id of list("/proc")) {
    const status = id === process.pid ? undefined : read_status(id);
    if (status === undefined || status.uid !== uid || (status.ended && status.threads <= 1)) continue;
    const { filtered } = status;
    const others = status.threads > 1 && (filtered || status.ended) ? list(`/proc/${id}/task`).filter((one) => one !== id) : [];
    const seen = new Set<string>();
    for (const thread of status.ended ? others : [id, ...others]) {
      const numbers = numbers_of(thread);
      const text = String(numbers);
      yield { id: thread, filtered, numbers, known: seen.has(text) };
      if (numbers === undefined) break;
      seen.add(text);
    }
  }
}

/** Whether a process lives that /proc does not show, as with hidepid=2 one that is not dumpable. */
function is_invisible(id: number): boolean {
  try {
    return process.kill(id, 0) && !existsSync(`/proc/${id}`);
  } catch {
    return false;
  }
}

/**
 * Looks for processes that have the sockets: all of them in one pass, because it takes milliseconds. One that may not be looked
 * into is taken for the holder of what nobody else has, if it could be of the program. @param wanted where each was last
 */
export function find_holders(wanted: ReadonlyMap<number, Place>): Map<number, Place> {
  const links = new Map([...wanted.keys()].map((inode) => [socket_link(inode), inode]));
  const last = [...wanted.values()].map(({ number }) => number);
  const found = new Map<number, Place>();
  let hidden: Place | undefined;
  for (const { id, filtered, numbers, known } of tables()) {
    for (const number of known ? last : (numbers ?? [])) {
      const inode = links.get(link_of(id, number) ?? "");
      if (inode !== undefined) found.set(inode, { process: id, number });
    }
    if (numbers === undefined && filtered) hidden ??= { process: id, number: SOMEWHERE };
    if (found.size === links.size) break;
  }
  for (const [inode, place] of wanted) {
    const holder = hidden ?? (is_invisible(place.process) ? place : undefined);
    if (!found.has(inode) && holder !== undefined) found.set(inode, holder);
  }
  return found;
}

/** Unix sockets, as their descriptors are shown. */
function unix_sockets(): Set<string> {
  try {
    const lines = readFileSync("/proc/net/unix", "utf8").matchAll(/^\S+: (?:\S+ +){5}(\d+)/gm);
    return new Set(Array.from(lines, ([, inode]) => socket_link(Number(inode))));
  } catch {
    return new Set();
  }
}

/**
 * Whether any descriptor is on its way between processes of the program, in the queue of a Unix socket (unix(7), SCM_RIGHTS),
 * where nobody has it and nothing tells what it is.
 */
export function any_in_flight(): boolean {
  const unix = unix_sockets();
  for (const { id, filtered, numbers = [], known } of tables())
    if (filtered && !known)
      for (const number of numbers)
        if (unix.has(link_of(id, number) ?? "") && from_fdinfo(fdinfo_of(id, number), "scm_fds") !== "0") return true;
  return false;
}
