/** What several tests need: temporary folders, free ports, children, and rules as an admin would write them. */
import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, readdirSync, readlinkSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { fileURLToPath } from "node:url";
import type { Peer } from "../helper/policy.js";
import type { RuleEntry } from "../shared/config-schema.js";
import { native } from "../shared/native.js";
import { LIMITS } from "../shared/protocol.js";

export const is_root = process.getuid?.() === 0;
/** For `{ skip }`: false, or why the test cannot run. */
export const needs_root = is_root ? false : "NOT ROOT: this part is not tested";

/** For `run_module`: as a user without rights, whoever runs the tests. */
export const AS_NOBODY: readonly string[] = is_root ? ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] : [];

/** The folder `dist`, and the repository. */
export const DIST = fileURLToPath(new URL("../", import.meta.url));
export const REPOSITORY = fileURLToPath(new URL("../../", import.meta.url));

/** A folder of this test file's own, gone when it ends. */
export function temp_folder(): string {
  const folder = mkdtempSync(join(realpathSync(tmpdir()), "lowport-test-"));
  after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** What glibc's free(3) opens for a moment, in any thread, when it gives memory back. */
const OF_MALLOC = "/proc/sys/vm/overcommit_memory";

/** How many descriptors this process has open. */
export function count_descriptors(): number {
  return readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) !== OF_MALLOC;
    } catch {
      return false; // that of readdir itself, and what a thread has closed meanwhile
    }
  }).length;
}

/** A port that nobody has right now on any address. */
export function free_port(stream = true): number {
  const fd = native().bindSocket(stream, "::", 0, false, false, 0);
  const info = native().socketInfo(fd);
  closeSync(fd);
  if (typeof info === "number") throw new Error(`no free port: errno ${-info}`);
  return info[2];
}

/** Runs an ES module in a child; it may import from `${dist}`. Its output is trimmed. */
export function run_module(
  source: string,
  wrap: readonly string[] = [],
): { status: number | null; signal: string | null; stdout: string; stderr: string } {
  const [command, ...args] = [...wrap, process.execPath, "--input-type=module", "-e", source];
  const { status, signal, stdout, stderr } = spawnSync(command, args, { encoding: "utf8", timeout: 60_000 });
  return { status, signal, stdout: stdout.trim(), stderr: stderr.trim() };
}

/** A rule as written, with every default filled in. */
export function rule_entry(over: Partial<RuleEntry>): RuleEntry {
  return {
    name: "web",
    users: [],
    groups: [],
    protocols: ["tcp"],
    addresses: ["*"],
    ports: [80],
    maxSockets: LIMITS.socketsPerUid,
    maxHoldSeconds: 60,
    reusePort: false,
    share: true,
    ...over,
  };
}

/** A peer with these ids; its group is its uid. */
export function peer(uid: number, groups: number[] = []): Peer {
  return { pid: 1, uid, gid: uid, groups };
}
