/** Whether the helper serves, by the answer that any client would get: `lowport status`, run by this program's own Node. */

import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import type { Init } from "./inits.js";
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

/** @returns as text, why no helper answers on that socket. @throws Error if one does that cannot write its audit log */
async function ask(socket: string): Promise<Status | string> {
  const cli = join(PROGRAM, "dist/client/cli.js");
  const { code, output } = await run_program(process.execPath, [cli, "status", "--json", "--socket", socket]);
  let status: Partial<Status> & { error?: { code: string; message: string } };
  try {
    status = JSON.parse(output.split("\n")[0] ?? "") as typeof status;
  } catch {
    return output;
  }
  const { pid, policyLoadedAt, error } = status;
  if (error?.code === "EIO") throw new Error(error.message); // it serves, and refuses everything
  if (code === 0 && typeof pid === "number" && policyLoadedAt !== undefined) return { pid, policyLoadedAt };
  return error?.message ?? output;
}

/** @returns undefined if no helper answers on that socket. @throws Error if one does that cannot write its audit log */
export async function ask_status(socket: string): Promise<Status | undefined> {
  const status = await ask(socket);
  return typeof status === "string" ? undefined : status;
}

/** What a wait is for, and who knows why it is in vain. */
export interface Wait {
  readonly what: string;
  readonly init: Pick<Init, "is_failing" | "last_words">;
  readonly stop?: AbortSignal;
}

/** Waits until the helper answers as wanted. @throws Error if it does not in time, has failed, or if `stop` is aborted */
export async function wait_until(socket: string, wanted: (status: Status) => boolean, { what, init, stop }: Wait): Promise<void> {
  const end = performance.now() + LIMIT_MS;
  for (;;) {
    const status = await ask(socket);
    if (typeof status !== "string" && wanted(status)) return;
    stop?.throwIfAborted();
    const late = performance.now() > end;
    if (late || (await init.is_failing())) {
      const why = typeof status === "string" ? status : "it still is the one before";
      const said = await init.last_words();
      throw new Error(
        `${what}: ${late ? `not within ${LIMIT_MS / 1000} s` : "it failed"}: ${why}${said === "" ? "" : ` It said: ${said}`}`,
      );
    }
    await pause(PAUSE_MS);
  }
}
