/**
 * Helpers that still run when their init has been told to stop them, because its script or unit was gone. They are found in /proc
 * by what the kernel says of them, their user and the file that they execute, and not by a pid file.
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { LIBRARY } from "./sources.js";

/** Milliseconds between SIGTERM and SIGKILL. */
const PATIENCE_MS = 10_000;
const PAUSE_MS = 50;

/** The processes of that user which execute a Node of lowport's. */
export function find_helpers(uid: number, library = LIBRARY): number[] {
  return readdirSync("/proc")
    .filter((name) => /^[0-9]+$/.test(name))
    .filter((pid) => {
      try {
        const own = new RegExp(`^Uid:\\s+${uid}\\s`, "m").test(readFileSync(`/proc/${pid}/status`, "utf8"));
        return own && readlinkSync(`/proc/${pid}/exe`).startsWith(`${library}/`);
      } catch {
        return false; // it has just ended
      }
    })
    .map(Number);
}

/** Ends them: by SIGTERM, and what has not ended after ten seconds by SIGKILL. */
export async function stop_leftovers(uid: number): Promise<void> {
  const start = performance.now();
  for (let helpers = find_helpers(uid); helpers.length > 0; helpers = find_helpers(uid)) {
    for (const pid of helpers) process.kill(pid, performance.now() - start < PATIENCE_MS ? "SIGTERM" : "SIGKILL");
    await pause(PAUSE_MS);
  }
}
