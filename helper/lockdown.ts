/**
 * The one-way door. After `lock_down` this process can bind low ports and nothing else that root can; the steps are in
 * native/lockdown.c. Then it is proved, on every thread, because a privilege that stayed on one of them stayed: any doubt
 * is an error and the helper exits.
 */
import { readdirSync, readFileSync } from "node:fs";
import { errno_of } from "../shared/errors.js";
import { native } from "../shared/native.js";

/** The mask of CAP_NET_BIND_SERVICE (capability 10, capabilities(7)). */
const BIND_ONLY = "0000000000000400";
const NONE = "0000000000000000";

/** The fields of a /proc/pid/task/tid/status file (proc(5)). */
export function parse_status(text: string): Map<string, string> {
  const fields = [...text.matchAll(/^(\w+):[ \t]*(.*?)[ \t]*$/gm)];
  return new Map(fields.map(([, name = "", value = ""]) => [name, value.replaceAll("\t", " ")]));
}

/** What a thread has that it must not have. `main` is the thread that binds; `asRoot` false: started unprivileged by an init. */
export function leftover_privileges(
  status: Map<string, string>,
  uid: number,
  gid: number,
  main: boolean,
  asRoot: boolean,
): string[] {
  const expected: [string, ...string[]][] = [
    ["Uid", Array(4).fill(uid).join(" ")],
    ["Gid", Array(4).fill(gid).join(" ")],
    // Threads that an init has started unprivileged all have the one capability, and no way to lose it from here.
    ["CapInh", ...(asRoot ? [NONE] : [NONE, BIND_ONLY])],
    ["CapPrm", ...(main ? [BIND_ONLY] : asRoot ? [NONE] : [NONE, BIND_ONLY])],
    ["CapEff", ...(main ? [BIND_ONLY] : asRoot ? [NONE] : [NONE, BIND_ONLY])],
    ["NoNewPrivs", "1"],
    ["Seccomp", "2"],
  ];
  if (asRoot) expected.push(["Groups", ""]);
  if (main) expected.push(["CapAmb", NONE]);
  if (main && asRoot) expected.push(["CapBnd", BIND_ONLY]);
  return expected
    .filter(([field, ...allowed]) => !allowed.includes(status.get(field) ?? "absent"))
    .map(([field, wanted]) => `${field} is "${status.get(field)}" and not "${wanted}"`);
}

function prove(uid: number, gid: number, asRoot: boolean): void {
  let threads = 0;
  for (const tid of readdirSync("/proc/self/task")) {
    let text: string;
    try {
      text = readFileSync(`/proc/self/task/${tid}/status`, "utf8");
    } catch (error) {
      if (errno_of(error) === "ENOENT" || errno_of(error) === "ESRCH") continue; // it has just ended
      throw error;
    }
    threads++;
    const left = leftover_privileges(parse_status(text), uid, gid, Number(tid) === process.pid, asRoot);
    if (left.length > 0) throw new Error(`thread ${tid}: ${left.join(", ")}`);
  }
  if (threads === 0) throw new Error("/proc/self/task shows no thread");
  for (const way_back of [() => process.setuid?.(0), () => process.setgid?.(0), () => process.setgroups?.([0])]) {
    try {
      way_back();
    } catch (error) {
      if (errno_of(error) === "EPERM") continue;
    }
    throw new Error(`this was not refused: ${way_back.toString()}`);
  }
}

/** Becomes `uid` and `gid` for ever, keeps CAP_NET_BIND_SERVICE alone, and proves it. @throws Error; then exit */
export function lock_down(uid: number, gid: number): void {
  const asRoot = process.getuid?.() === 0;
  native().lockDown(uid, gid, asRoot);
  prove(uid, gid, asRoot);
}
