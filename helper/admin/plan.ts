/**
 * What an install has to change here, found out without changing anything. The order is that of the changes: first the record of
 * what is going to be there, last the service, so that it starts when all else is right.
 */
import { readdirSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { HARDENED_FLAGS, NODE_FLAGS } from "../../shared/node-flags.js";
import { pid_file_of } from "../../shared/pid-file.js";
import { DEFAULT_CONFIG, VERSION } from "../../shared/protocol.js";
import { plan_account, SYSUSERS } from "./account.js";
import type { Allowed } from "./allow.js";
import { plan_audit_folder } from "./audit-folder.js";
import type { Change } from "./changes.js";
import { files_of, fill_template, INIT_NAMES, type Init, type InitFile, init_of } from "./inits.js";
import { find_program } from "./programs.js";
import { type InstallRecord, note_file, RECORD } from "./record.js";
import { copy_release, list_releases, name_release, remove_releases, remove_unfinished, try_release } from "./release.js";
import { plan_service } from "./service.js";
import { CONFIG_FILES, plan_settings, RULES_FOLDER, type Settings, STAGE } from "./settings.js";
import { LIBRARY, PROGRAM, type Source } from "./sources.js";
import { look_at, remove_leftovers, remove_tree } from "./standing.js";
import { Plan, type Target } from "./targets.js";

/** Files that are the same for every init: where they are in the program, and where they go. */
const FILES: readonly (readonly [string, string])[] = [
  ["helper/service/lowport.logrotate", "/etc/logrotate.d/lowport"],
  ["client/man/lowport.1", "/usr/local/share/man/man1/lowport.1"],
  ["helper/man/lowport.json.5", "/usr/local/share/man/man5/lowport.json.5"],
  ["helper/man/lowportd.8", "/usr/local/share/man/man8/lowportd.8"],
  ["client/completions/lowport.bash", "/usr/local/share/bash-completion/completions/lowport"],
  ["client/completions/_lowport", "/usr/local/share/zsh/site-functions/_lowport"],
  ["client/completions/lowport.fish", "/usr/local/share/fish/vendor_completions.d/lowport.fish"],
];
export const LINKS = [
  { path: "/usr/local/bin/lowport", to: "../lib/lowport/current/bin/lowport" },
  { path: "/usr/local/sbin/lowportd", to: "../lib/lowport/current/bin/lowportd" },
  // These two shells look for completions by the name of the command.
  { path: "/usr/local/share/bash-completion/completions/lowportd", to: "lowport" },
  { path: "/usr/local/share/fish/vendor_completions.d/lowportd.fish", to: "lowport.fish" },
];

/** Every path that any install may have written, but for the configuration's. */
export const KNOWN_FILES: readonly string[] = [
  ...new Set([
    ...INIT_NAMES.flatMap((name) => files_of(init_of(name)).map(({ path }) => path)),
    SYSUSERS,
    ...FILES.map(([, path]) => path),
  ]),
];

/** Removes what an install that was killed has left. */
export function clean_up(): void {
  remove_unfinished();
  const links = [...LINKS.map(({ path }) => path), join(LIBRARY, "current")];
  remove_leftovers([...KNOWN_FILES, ...links, RECORD, ...CONFIG_FILES]);
  for (const name of readdirSync(dirname(STAGE)))
    if (join(dirname(STAGE), name).startsWith(STAGE)) remove_tree(join(dirname(STAGE), name));
}

/** The files outside of the release that are to be as install writes them. */
function wanted_files(init: Init, settings: Settings, sysusers: boolean, hardened: boolean): Target[] {
  const values = {
    ...{ CONFIG: DEFAULT_CONFIG, SOCKET: settings.socket, SOCKET_MODE: settings.socketMode, SOCKET_GROUP: settings.group },
    ...{
      PROGRAM: join(LIBRARY, "current"),
      NODE_FLAGS: NODE_FLAGS.join(" "),
      HARDENED_FLAGS: HARDENED_FLAGS.join(" "),
      USER: settings.user,
      PID_FILE: pid_file_of(settings.socket),
      AUDIT_FOLDER: dirname(settings.auditLog),
      AUDIT_LOG: settings.auditLog,
      ROTATE: init.rotate,
    },
  };
  const services: InitFile[] = [
    ...(sysusers ? [{ source: "lowport.sysusers", path: SYSUSERS, mode: 0o644 }] : []),
    ...files_of(init).filter((file) => file !== init.hardened || hardened || look_at(file.path) !== undefined),
  ];
  const all = [
    ...services.map(({ source, path, mode }) => ({ source: join("helper/service", source), path, mode })),
    ...FILES.map(([source, path]) => ({ source, path, mode: 0o644 })),
  ];
  return all.map(({ source, path, mode }) => ({ path, mode, text: fill_template(join(PROGRAM, source), values) }));
}

/** What npm makes of the package's commands. */
const BY_NPM = /\/node_modules\/lowport\/dist\/(client\/lowport|client\/cli|helper\/main)\.(c?js|sh)$/;

/** A link of the same name that npm has made, or an install, may be replaced. */
function is_ours(path: string, to: string): boolean {
  const target = resolve(dirname(path), to);
  return target.startsWith(`${LIBRARY}/`) || BY_NPM.test(target);
}

export interface Planned {
  readonly changes: readonly Change[];
  readonly settings: Settings;
  readonly release: string;
}

/**
 * @param hardened whether to add what --hardened adds; if it is there already, it stays
 * @param sources what the release is made of
 * @param before what the last install has recorded
 * @throws Refusal, ConfigFault
 */
export async function plan_install(
  init: Init,
  hardened: boolean,
  sources: readonly Source[],
  allowed: readonly Allowed[],
  before: InstallRecord | undefined,
): Promise<Planned> {
  const settings = plan_settings(allowed);
  const sysusers = init.name === "systemd" && settings.user === "lowport" && find_program("systemd-sysusers") !== undefined;
  const files = wanted_files(init, settings, sysusers, hardened);
  const is_sysusers = ({ path }: Target) => path === SYSUSERS;
  const account = plan_account(settings, before?.account ?? { user: false, group: false }, sysusers);
  const release = name_release(sources);

  const first = new Plan();
  first.folder(LIBRARY);
  const rest = new Plan(first.folders);

  // Who the service runs as, and what it reads and writes.
  for (const file of files.filter(is_sysusers)) rest.file(file);
  for (const change of account.changes) rest.step(change);
  rest.folder(RULES_FOLDER);
  const new_rules = settings.files.map((file) => rest.file(file)).includes(true);
  const audit = plan_audit_folder(dirname(settings.auditLog), settings.user);
  if (audit !== undefined) rest.step(audit);

  // The program: copied aside, tried, and only then current.
  const copy = copy_release(release, sources);
  if (copy !== undefined) rest.step(copy);
  const switched = new Plan([...first.folders, ...rest.folders]);
  const new_release = switched.link(join(LIBRARY, "current"), release, (to) => basename(to) === to) || copy !== undefined;
  if (new_release) rest.step(try_release(release, DEFAULT_CONFIG));

  // What makes it a command and a service.
  for (const { path, to } of LINKS) switched.link(path, to, (old) => is_ours(path, old));
  const changed = new Set(files.filter((file) => !is_sysusers(file) && switched.file(file)).map(({ path }) => path));
  for (const { path } of before?.files ?? []) if (!files.some((file) => file.path === path)) switched.no_file(path);
  const service = await plan_service(init, settings, { program: new_release, rules: new_rules, files: changed }, before?.socket);

  const folders = [...new Set([...(before?.folders ?? []), ...first.folders, ...rest.folders, ...switched.folders])];
  const record: InstallRecord = {
    ...{ version: VERSION, release, init: init.name, socket: settings.socket, account: account.made, folders },
    files: files.map(note_file),
    links: [{ path: join(LIBRARY, "current"), to: release }, ...LINKS],
  };
  first.file({ path: RECORD, text: `${JSON.stringify(record, undefined, 1)}\n`, mode: 0o644 });
  const changes = [...service.before, ...first.changes, ...rest.changes, ...switched.changes, ...service.after];
  const keep = new Set([release, before?.release]);
  const old = list_releases().filter((name) => !keep.has(name));
  if (new_release && old.length > 0) changes.push(remove_releases(old));
  return { changes: changes.some((change) => change.apply !== undefined) ? changes : [], settings, release };
}
