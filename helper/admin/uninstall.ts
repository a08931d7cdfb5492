/**
 * `lowportd uninstall`: takes away what install put there, and nothing else: the service, its files, the program, the configuration,
 * the account. The audit log stays, as root's, unless --purge says otherwise. Each step is done if it can be, whatever became of
 * the others, so that half an installation can be removed too; what could not be done is said, and a second run tries it again.
 */
import { readdirSync, readFileSync, readlinkSync, rmdirSync, rmSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { errno_of, message_of } from "../../shared/errors.js";
import { DEFAULT_CONFIG, DEFAULT_SOCKET, EXIT } from "../../shared/protocol.js";
import { die } from "../command-line.js";
import { find_user_entry, remove_group, remove_user } from "./account.js";
import { read_options } from "./arguments.js";
import { AUDIT_FOLDER, give_to_root, remove_log } from "./audit-folder.js";
import { hear_signals } from "./changes.js";
import { files_of, find_init, type Init, init_of } from "./inits.js";
import { stop_leftovers } from "./leftovers.js";
import { by_npm, npm_programs } from "./newer.js";
import { clean_up, KNOWN_FILES, LINKS } from "./plan.js";
import { type InstallRecord, lock_installs, RECORD, read_record } from "./record.js";
import { list_releases } from "./release.js";
import { type Outcome, run_and_report } from "./report.js";
import { RUN_FOLDER, remove_socket } from "./service.js";
import { ACCOUNT } from "./settings.js";
import { LIBRARY } from "./sources.js";
import { look_at, look_at_file, remove_tree } from "./standing.js";

const OPTIONS = {
  purge: { type: "boolean", default: false },
  "dry-run": { type: "boolean", default: false },
  json: { type: "boolean", default: false },
} as const;

interface Step {
  readonly says: string;
  run(): void | Promise<void>;
}

const CONFIG_FOLDER = dirname(DEFAULT_CONFIG);

/** Files that install may have written, when its record is lost: those of our names that speak of us. */
function guess_files(): string[] {
  return KNOWN_FILES.filter((path) => look_at(path)?.isFile() === true && readFileSync(path, "utf8").includes("lowport"));
}

function remove_if_empty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch (error) {
    if (!["ENOENT", "ENOTEMPTY", "EEXIST", "EBUSY"].includes(errno_of(error) ?? "")) throw error;
  }
}

function plan_uninstall(init: Init | undefined, record: InstallRecord | undefined, purge: boolean): Step[] {
  const steps: Step[] = [];
  const add = (says: string, run: Step["run"]) => steps.push({ says, run });
  const files = (record?.files.map(({ path }) => path) ?? guess_files()).filter((path) => look_at(path) !== undefined);
  const own = (path: string) => init !== undefined && files_of(init).some((file) => file.path === path);

  // The service.
  if (init !== undefined) {
    add("stop lowport", () => init.stop());
    add(`disable lowport in ${init.name}`, () => init.disable());
  }
  const user = record?.account.user === true ? find_user_entry(ACCOUNT) : undefined;
  if (init !== undefined) add("see that nothing of lowport runs any more", stop_leftovers);

  // Its files, also if they were edited; what is no file of root's any more is somebody else's, and stays.
  for (const path of files)
    add(`remove ${path}`, () => {
      look_at_file(path);
      rmSync(path);
    });
  if (init !== undefined && files.some(own)) add(`tell ${init.name} that they are gone`, () => init.read_again());
  for (const { path, to } of LINKS)
    if (look_at(path)?.isSymbolicLink() === true && readlinkSync(path) === to)
      add(`remove ${path}`, () => {
        rmSync(path);
        const npm = by_npm(path);
        if (npm !== undefined) symlinkSync(npm, path); // as it was before the install
      });

  // What it read and wrote.
  const socket = record?.socket ?? DEFAULT_SOCKET;
  if (dirname(socket) !== RUN_FOLDER && look_at(socket)?.isSocket() === true)
    add(`remove ${socket}`, () => remove_socket(socket));
  for (const folder of [CONFIG_FOLDER, RUN_FOLDER])
    if (look_at(folder) !== undefined) add(`remove ${folder} with all that is in it`, () => remove_tree(folder));
  const log = look_at(AUDIT_FOLDER);
  if (log !== undefined && purge) add(`remove ${AUDIT_FOLDER} with all that is in it`, remove_log);
  else if (log !== undefined && log.uid !== 0) add(`give ${AUDIT_FOLDER} to root; the audit log stays`, give_to_root);

  // Who it ran as.
  if (user !== undefined) add(`remove the user ${ACCOUNT}`, remove_user);
  if (record?.account.group === true) add(`remove the group ${ACCOUNT}`, remove_group);

  // The program.
  const current = join(LIBRARY, "current");
  if (look_at(current)?.isSymbolicLink() === true) add(`remove ${current}`, () => rmSync(current));
  for (const name of list_releases()) add(`remove ${join(LIBRARY, name)}`, () => remove_tree(join(LIBRARY, name)));
  return steps;
}

/** The last step: without the record, nobody would know what is left. */
function forget(record: InstallRecord | undefined): void {
  rmSync(RECORD, { force: true });
  const folders = [...(record?.folders ?? []), LIBRARY];
  for (const folder of folders.toSorted((a, b) => b.length - a.length)) remove_if_empty(folder);
  if (look_at(LIBRARY) !== undefined)
    throw new Error(`${LIBRARY} has something in it that is not lowport's (${readdirSync(LIBRARY).join(", ")}); it is left`);
}

/** Ends the process: 0, 1 (something is left), 64, 77, 78 (nothing was changed). */
export async function uninstall(args: readonly string[]): Promise<never> {
  const options = read_options(args, OPTIONS);
  if (process.getuid?.() !== 0) die(EXIT.noPermission, "lowportd uninstall: must be run as root (try sudo)");
  process.umask(0o022); // for the programs that are run
  return run_and_report("uninstall", options, async (say, stop): Promise<Outcome> => {
    if (!options["dry-run"]) {
      lock_installs();
      clean_up();
    }
    const record = read_record();
    const lost = record === undefined && guess_files().length > 0;
    const init = record !== undefined ? init_of(record.init) : lost ? find_init() : undefined;
    const steps = plan_uninstall(init, record, options.purge);
    if (record !== undefined || look_at(LIBRARY) !== undefined)
      steps.push({ says: `remove ${LIBRARY}`, run: () => forget(record) });
    if (steps.length === 0) return { result: "lowport is not installed", next: [] };

    const faults: string[] = [];
    for (const step of steps) {
      await hear_signals();
      if (stop.aborted || (faults.length > 0 && step.says === `remove ${LIBRARY}`)) break;
      say(step.says);
      if (options["dry-run"]) continue;
      try {
        await step.run();
      } catch (error) {
        faults.push(`${step.says}: ${message_of(error)}`);
      }
    }
    if (stop.aborted) faults.push(`${message_of(stop.reason)}; run it again to remove the rest`);
    if (faults.length > 0) return { result: "not all of lowport is removed", next: [], faults };
    const next: string[] = [];
    if (look_at(AUDIT_FOLDER) !== undefined && !options.purge)
      next.push(`the audit log is in ${AUDIT_FOLDER}; uninstall --purge removes it too`);
    if (record?.account.user !== true && find_user_entry(ACCOUNT) !== undefined)
      next.push(
        `the user and group ${ACCOUNT} stay: it is not known that an install has made them; userdel ${ACCOUNT} removes them`,
      );
    for (const program of npm_programs())
      next.push(`${program} is npm's and stays; sudo npm uninstall --global lowport removes it`);
    return { result: options["dry-run"] ? "nothing was changed (--dry-run)" : "lowport is removed", next };
  });
}
