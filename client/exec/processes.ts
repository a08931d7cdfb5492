/**
 * What /proc tells about the program's processes: who they are, and which of them has a socket. Every answer may be out of
 * date when it is given; callers either have the kernel confirm it (noticeIsValid) or do nothing that harms if it is wrong.
 */
import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";

export interface Status {
  /** The thread's process. */
  readonly process: number;
  /** Its command's name. */
  readonly name: string;
  /** All its user and group ids, as text. */
  readonly identity: string;
  /** Effective. */
  readonly capabilities: bigint;
}

/** A process or thread; undefined if it is gone. */
export function read_status(id: number | "self"): Status | undefined {
  try {
    const text = readFileSync(`/proc/${id}/status`, "utf8");
    const line = (name: string) => new RegExp(`^${name}:[ \\t]*(.*)$`, "m").exec(text)?.[1]?.trim() ?? "";
    return {
      process: Number(line("Tgid")),
      name: line("Name"),
      identity: ["Uid", "Gid", "Groups"].map(line).join("/"),
      capabilities: BigInt(`0x${line("CapEff")}`),
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

/** Numbers of the descriptors of a process or thread. */
export function numbers_of(id: number): number[] {
  try {
    return readdirSync(`/proc/${id}/fd`).map(Number);
  } catch {
    return [];
  }
}

export const socket_link = (inode: number) => `socket:[${inode}]`;

export const has_socket = ({ process, number }: Place, inode: number) => link_of(process, number) === socket_link(inode);

/** Looks for a process of this user, other than this one, that has the socket. */
export function find_holder(inode: number): Place | undefined {
  const uid = process.getuid?.();
  for (const name of readdirSync("/proc")) {
    const id = Number(name);
    if (!Number.isInteger(id) || id === process.pid) continue;
    try {
      if (statSync(`/proc/${id}`).uid !== uid) continue;
    } catch {
      continue;
    }
    const number = numbers_of(id).find((one) => has_socket({ process: id, number: one }, inode));
    if (number !== undefined) return { process: id, number };
  }
  return undefined;
}
