/** Whether the helper serves, by the answer that any client would get: `lowport status`, run by this program's own Node. */

import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { run_program } from "./programs.js";
import { PROGRAM } from "./sources.js";

/** Milliseconds between two questions, and until it is given up. */
const PAUSE_MS = 100;
const LIMIT_MS = 30_000;

/** What `status` says of a helper that serves. */
export interface Status {
  readonly pid: number;
  readonly policyLoadedAt: string;
}

/** @returns undefined if no helper answers on that socket. @throws Error if one does that cannot write its audit log */
export async function ask_status(socket: string): Promise<Status | undefined> {
  const { code, output } = await run_program(process.execPath, [
    join(PROGRAM, "dist/client/cli.js"),
    "status",
    "--json",
    "--socket",
    socket,
  ]);
  let status: Partial<Status> & { error?: { code: string; message: string } };
  try {
    status = JSON.parse(output) as typeof status;
  } catch {
    return undefined;
  }
  // It serves, and refuses everything.
  if (status.error?.code === "EIO") throw new Error(status.error.message);
  return code === 0 && typeof status.pid === "number" ? (status as Status) : undefined;
}

/** Waits until the helper answers as wanted. @throws Error if it does not in time, or if `stop` is aborted */
export async function wait_until(
  socket: string,
  wanted: (status: Status) => boolean,
  what: string,
  stop?: AbortSignal,
): Promise<Status> {
  const end = performance.now() + LIMIT_MS;
  for (;;) {
    const status = await ask_status(socket);
    if (status !== undefined && wanted(status)) return status;
    stop?.throwIfAborted();
    if (performance.now() > end) throw new Error(`${what}: no answer on ${socket} within ${LIMIT_MS / 1000} s`);
    await pause(PAUSE_MS);
  }
}
