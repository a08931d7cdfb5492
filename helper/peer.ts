/**
 * Who is at the other end of a connection: the kernel's word about connect(), never the peer's and never a look-up by pid.
 * Where the helper runs in a user namespace that does not map all ids, the kernel says 65534 for each it cannot name
 * there, so that number then means "someone", and "someone" gets nothing.
 */
import { readFileSync } from "node:fs";
import { errno_name, native } from "../shared/native.js";
import type { Peer } from "./policy.js";

/** Supplementary groups of a peer: they stand in each of its audit records. The kernel lets a user have 65,536. */
export const MAX_GROUPS = 1024;
const ALL_IDS = 4_294_967_295;
/** What the kernel has unless somebody changes it. */
const USUAL_OVERFLOW_ID = 65_534;

/** The overflow id of a kind ("uid" or "gid") if some id is not mapped here, else undefined. */
export function overflow_id(kind: "uid" | "gid", read = (file: string) => readFileSync(file, "utf8")): number | undefined {
  const ranges = read(`/proc/self/${kind}_map`)
    .trim()
    .split("\n")
    .map((line) => line.trim().split(/\s+/).map(Number));
  const mapped = ranges.reduce((sum, [, , length = 0]) => sum + length, 0);
  if (mapped >= ALL_IDS) return undefined;
  try {
    return Number(read(`/proc/sys/kernel/overflow${kind}`));
  } catch {
    return USUAL_OVERFLOW_ID; // hidden in a sandbox (ProcSubset=pid)
  }
}

let overflow: { uid: number | undefined; gid: number | undefined } | undefined;

/** Of the groups one more than MAX_GROUPS at most. @throws Error if the kernel does not tell (before Linux 4.13) */
export function read_peer(fd: number): Peer {
  const ids = native().peerCredentials(fd);
  if (typeof ids === "number") throw new Error(`the kernel does not tell who connected: ${errno_name(ids)}`);
  overflow ??= { uid: overflow_id("uid"), gid: overflow_id("gid") };
  const [pid, uid, gid] = ids as unknown as [number, number, number];
  const groups: number[] = [];
  for (let i = 3; i < ids.length && i < 4 + MAX_GROUPS; i++) if (ids[i] !== overflow.gid) groups.push(ids[i] as number);
  const unmapped = uid === overflow.uid || gid === overflow.gid;
  return unmapped ? { pid, uid, gid, groups, unmapped } : { pid, uid, gid, groups };
}
