/** How the service gets from what it was to what it shall be: enabled, and running what is installed. And how it gets back. */
import { dirname } from "node:path";
import { DEFAULT_SOCKET } from "../../shared/protocol.js";
import type { Change } from "./changes.js";
import type { Init } from "./inits.js";
import { ask_status, wait_until } from "./serving.js";
import type { Settings } from "./settings.js";
import { look_at, remove_tree } from "./targets.js";

/** Where the helper has its socket and its pid file. */
export const RUN_FOLDER = dirname(DEFAULT_SOCKET);

/** What an install changes of that which runs. */
export interface Differences {
  readonly program: boolean;
  readonly rules: boolean;
  /** Paths of files outside of the release. */
  readonly files: ReadonlySet<string>;
}

/** @returns changes for before and after the switch to the new program and its files; only their undo is for before */
export async function plan_service(
  init: Init,
  { socket }: Settings,
  { program, rules, files }: Differences,
): Promise<{ before: Change[]; after: Change[] }> {
  const own = init.files.filter(({ path }) => files.has(path));
  const running = await init.is_running();
  const status = running ? await ask_status(socket) : undefined;
  const restarts = running && (program || own.length > 0);
  const before: Change[] = [];
  const after: Change[] = [];

  if (look_at(RUN_FOLDER) === undefined)
    before.push({
      says: `see that ${RUN_FOLDER} is gone again`,
      undo: () => {
        if (look_at(RUN_FOLDER) !== undefined) remove_tree(RUN_FOLDER);
      },
    });
  if (own.length > 0) {
    // Undone last: when the old files are back.
    before.push({ says: `take ${init.name} back to the old files`, undo: () => init.read_again() });
    after.push({ says: `tell ${init.name} of the new files`, apply: () => init.read_again() });
  }
  if (restarts)
    before.unshift({
      says: "restart the service of before",
      undo: async () => {
        await init.restart(own.some(({ path }) => path.endsWith(".socket")));
        await wait_until(socket, () => true, "the service of before was restarted");
      },
    });
  if (!(await init.is_enabled()))
    after.push({ says: `enable lowport in ${init.name}`, apply: () => init.enable(), undo: () => init.disable() });
  if (restarts)
    after.push({
      says: "restart lowport, and wait until it answers",
      apply: async (stop) => {
        await init.restart(own.some(({ path }) => path.endsWith(".socket")));
        await wait_until(socket, ({ pid }) => pid !== status?.pid, "lowport was restarted", stop);
      },
    });
  else if (!running)
    after.push({
      says: "start lowport, and wait until it answers",
      apply: async (stop) => {
        await init.start();
        await wait_until(socket, () => true, "lowport was started", stop);
      },
      undo: () => init.stop(),
    });
  else if (rules)
    after.push({
      says: "reload the rules, and wait until they are in force",
      apply: async (stop) => {
        await init.reload();
        const changed = ({ policyLoadedAt }: { policyLoadedAt: string }) => policyLoadedAt !== status?.policyLoadedAt;
        await wait_until(socket, changed, "lowport was told to reload", stop);
      },
      undo: () => init.reload(),
    });
  return { before, after };
}
