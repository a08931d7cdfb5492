/** How the service gets from what it was to what it shall be: enabled, and running what is installed. And how it gets back. */
import { closeSync, constants, openSync, readdirSync, rmdirSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { native } from "../../shared/native.js";
import { pid_file_of, read_pid_file } from "../../shared/pid-file.js";
import { DEFAULT_SOCKET } from "../../shared/protocol.js";
import type { Change } from "./changes.js";
import { files_of, type Init } from "./inits.js";
import { ask_status, wait_until } from "./serving.js";
import type { Settings } from "./settings.js";
import { look_at, look_at_file, missing_folders, Refusal, remove_tree } from "./standing.js";

/** Where the helper has its socket and its pid file. */
export const RUN_FOLDER = dirname(DEFAULT_SOCKET);

/** What an install changes of that which runs. */
export interface Differences {
  readonly program: boolean;
  readonly rules: boolean;
  /** Paths of files outside of the release. */
  readonly files: ReadonlySet<string>;
}

/** The folders of the socket and the pid file must be root's alone, or others could put theirs there. @throws Refusal */
function refuse_socket(socket: string): void {
  for (const folder of [RUN_FOLDER, dirname(socket)]) missing_folders(folder);
  look_at_file(pid_file_of(socket));
  const stats = look_at(socket);
  if (stats !== undefined && !stats.isSocket()) throw new Refusal(`${socket} is there already and is no socket; move it away`);
}

/** Removes a socket that nobody listens on, its lock, and the pid file. */
export function remove_socket(socket: string): void {
  for (const path of [socket, `${socket}.lock`, pid_file_of(socket)]) rmSync(path, { force: true });
  if (readdirSync(dirname(socket)).length === 0) rmdirSync(dirname(socket));
}

/** What systemd has kept for the helper may be what it cannot start with. */
async function restart_from_nothing(init: Init): Promise<void> {
  await init.stop();
  await init.start();
}

/** A helper that the init does not know of would lose its socket to the service. @throws Refusal */
function refuse_stranger(init: Init, socket: string): void {
  const lock = `${socket}.lock`;
  if (look_at_file(lock) === undefined) return;
  const fd = openSync(lock, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    if (native().lockFile(fd) >= 0) return;
  } finally {
    closeSync(fd);
  }
  const pid = read_pid_file(pid_file_of(socket))?.pid ?? "see fuser";
  throw new Refusal(`a helper that ${init.name} has not started serves on ${socket} (pid ${pid}); stop it first`);
}

/** @returns what is undone last, when all files are as before, and what is done last, when all are as they shall be */
export async function plan_service(
  init: Init,
  { socket }: Settings,
  { program, rules, files }: Differences,
  old_socket = socket,
): Promise<{ before: Change[]; after: Change[] }> {
  refuse_socket(socket);
  const own = files_of(init).filter(({ path }) => files.has(path));
  const running = await init.is_running();
  if (!running) refuse_stranger(init, socket);
  const status = running ? await ask_status(old_socket) : undefined;
  const restarts = running && (program || own.length > 0 || status === undefined);
  const all = look_at(old_socket) === undefined || own.some(({ path }) => path.endsWith(".socket"));
  const before: Change[] = [];
  const after: Change[] = [];

  if (old_socket !== socket)
    before.push({
      says: `move the control socket from ${old_socket} to ${socket}; the configuration says so, so the service cannot go back if this fails`,
      apply: () => undefined,
      finish: () => {
        if (look_at(old_socket)?.isSocket() === true) remove_socket(old_socket);
      },
    });
  if (look_at(RUN_FOLDER) === undefined)
    before.push({
      says: `see that ${RUN_FOLDER} is gone again`,
      undo: () => {
        if (look_at(RUN_FOLDER) !== undefined) remove_tree(RUN_FOLDER);
      },
    });
  if (own.length > 0) {
    before.push({ says: `take ${init.name} back to the old files`, undo: () => init.read_again() });
    after.push({ says: `tell ${init.name} of the new files`, apply: () => init.read_again() });
  }
  if (restarts)
    before.unshift({
      says: "restart the service of before",
      undo: async () => {
        await init.restart(all).catch(() => restart_from_nothing(init));
        if (status !== undefined) await wait_until(old_socket, () => true, { what: "the service of before was restarted", init });
      },
    });
  if (!(await init.is_enabled()))
    after.push({ says: `enable lowport in ${init.name}`, apply: () => init.enable(), undo: () => init.disable() });
  if (restarts)
    after.push({
      says: "restart lowport, and wait until it answers",
      apply: async (stop) => {
        await init.restart(all);
        await wait_until(socket, ({ pid }) => pid !== status?.pid, { what: "lowport was restarted", init, stop });
      },
    });
  else if (!running)
    after.push({
      says: "start lowport, and wait until it answers",
      apply: async (stop) => {
        await init.start();
        await wait_until(socket, () => true, { what: "lowport was started", init, stop });
      },
      undo: () => init.stop(),
    });
  else if (rules) {
    before.unshift({ says: "reload the rules of before", undo: () => init.reload() });
    after.push({
      says: "reload the rules, and wait until they are in force",
      apply: async (stop) => {
        await init.reload();
        const changed = ({ policyLoadedAt }: { policyLoadedAt: string }) => policyLoadedAt !== status?.policyLoadedAt;
        await wait_until(socket, changed, { what: "lowport was told to reload", init, stop });
      },
    });
  }
  return { before, after };
}
