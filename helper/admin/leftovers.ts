/**
 * Helpers that still run when their init has been told to stop them, because its script or unit was gone. They are found in /proc
 * by the file that they execute, and not by a pid file.
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { basename } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { LIBRARY } from "./sources.js";

/** Milliseconds between SIGTERM and SIGKILL. */
const PATIENCE_MS = 10_000;
const PAUSE_MS = 50;

/** Whether a process is a helper, or a supervise-daemon (OpenRC) that would start one again. */
function is_leftover(pid: string): boolean {
  try {
    const program = readlinkSync(`/proc/${pid}/exe`);
    const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    if (program.startsWith(`${LIBRARY}/`))
      return words.some((word, i) => word.endsWith("/helper/main.cjs") && words[i + 1] === "run");
    const is_root = /^Uid:\s+0\s/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
    return is_root && basename(program) === "supervise-daemon" && words[1] === "lowport";
  } catch {
    return false; // it has just ended
  }
}

/** The process ids of what still runs of the service. */
export function find_leftovers(): number[] {
  return readdirSync("/proc")
    .filter((name) => /^[0-9]+$/.test(name) && is_leftover(name))
    .map(Number);
}

/** Ends them: by SIGTERM, and what has not ended after ten seconds by SIGKILL. */
export async function stop_leftovers(): Promise<void> {
  const start = performance.now();
  for (let left = find_leftovers(); left.length > 0; left = find_leftovers()) {
    for (const pid of left) process.kill(pid, performance.now() - start < PATIENCE_MS ? "SIGTERM" : "SIGKILL");
    await pause(PAUSE_MS);
  }
}
