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

/** Where the kernel's word is put: three ids, and of the groups one more than MAX_GROUPS, by which it shows that there are too many. */
const ids = new Int32Array(4 + MAX_GROUPS);
const id_at = (i: number) => (ids[i] as number) >>> 0;

/** Of the groups one more than MAX_GROUPS at most. @throws Error if the kernel does not tell (before Linux 4.13) */
export function read_peer(fd: number): Peer {
  const count = native().peerCredentials(fd, ids);
  if (count < 0) throw new Error(`the kernel does not tell who connected: ${errno_name(count)}`);
  overflow ??= { uid: overflow_id("uid"), gid: overflow_id("gid") };
  const [pid, uid, gid] = [id_at(0), id_at(1), id_at(2)];
  const groups: number[] = [];
  for (let i = 3; i < count; i++) if (id_at(i) !== overflow.gid) groups.push(id_at(i));
  const unmapped = uid === overflow.uid || gid === overflow.gid;
  return unmapped ? { pid, uid, gid, groups, unmapped } : { pid, uid, gid, groups };
}
