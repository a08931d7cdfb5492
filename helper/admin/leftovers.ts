/**
 * Helpers that still run when their init has been told to stop them, because its script or unit was gone. They are found in /proc
 * by what the kernel says of them, their user and the file that they execute, and not by a pid file.
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { basename } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { LIBRARY } from "./sources.js";

/** Milliseconds between SIGTERM and SIGKILL. */
const PATIENCE_MS = 10_000;
const PAUSE_MS = 50;

/** Whether a process is a helper of that user, or a supervise-daemon (OpenRC) that would start one again. */
function is_leftover(pid: string, user: number | undefined, library: string): boolean {
  try {
    const uid = /^Uid:\s+(\d+)\s/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    const program = readlinkSync(`/proc/${pid}/exe`);
    if (uid === String(user) && program.startsWith(`${library}/`)) return true;
    const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    return uid === "0" && basename(program) === "supervise-daemon" && words[1] === "lowport";
  } catch {
    return false; // it has just ended
  }
}

/** @param user the helper's uid, if there is such a user */
export function find_leftovers(user: number | undefined, library = LIBRARY): number[] {
  const processes = readdirSync("/proc").filter((name) => /^[0-9]+$/.test(name));
  return processes.filter((pid) => is_leftover(pid, user, library)).map(Number);
}

/** Ends them: by SIGTERM, and what has not ended after ten seconds by SIGKILL. */
export async function stop_leftovers(user: number | undefined): Promise<void> {
  const start = performance.now();
  for (let left = find_leftovers(user); left.length > 0; left = find_leftovers(user)) {
    for (const pid of left) process.kill(pid, performance.now() - start < PATIENCE_MS ? "SIGTERM" : "SIGKILL");
    await pause(PAUSE_MS);
  }
}
