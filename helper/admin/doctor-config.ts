/**
 * The doctor's checks of the configuration: each fault of it, what the helper's user cannot read of it, and what was changed and is
 * not in force yet. A fault in a rule hides nothing else: what lowport.json says of user, socket and log is known all the same.
 */
import { lstatSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import type { ConfigFile } from "../../shared/config-schema.js";
import { message_of } from "../../shared/errors.js";
import { config as validate_config } from "../../shared/generated/config.js";
import { type Config, ConfigFault, load_config } from "../config.js";
import { find_group, find_user, type User } from "../posix.js";
import { read_trusted } from "../trusted-path.js";
import type { Answer } from "./doctor-process.js";
import { type Result, tell, unknown, unless_wrong, wrong } from "./findings.js";
import { look_at } from "./standing.js";

/** What the other checks need of it. */
export type Known = Pick<Config, "socket" | "user" | "audit">;

/** The configuration, as far as it can be made out. */
export interface Reading {
  readonly file: string;
  readonly known: Known | undefined;
  /** How many rules; undefined if the helper would refuse it. */
  readonly rules: number | undefined;
  readonly faults: readonly string[];
}

/** What lowport.json says of itself, whatever is wrong with the rules. */
function read_known(file: string): Known | undefined {
  try {
    const main: unknown = JSON.parse(read_trusted(file));
    if (!validate_config(main)) return undefined;
    const { socket, user: name, audit } = main as ConfigFile;
    const [user, group] = [find_user(name), find_group(socket.group)];
    if (user === undefined || group === undefined) return undefined;
    return { user, audit, socket: { path: socket.path, gid: group.gid, mode: Number.parseInt(socket.mode, 8) } };
  } catch {
    return undefined; // that is among the faults
  }
}

/** @param file absolute path */
export function read_config(file: string): Reading {
  try {
    const config = load_config(file);
    return { file, known: config, rules: config.policy.rules.length, faults: [] };
  } catch (error) {
    const faults = error instanceof ConfigFault ? error.faults : [message_of(error)];
    return { file, known: read_known(file), rules: undefined, faults };
  }
}

/** Whether a user may read a file of root's, or look into a folder of root's. */
function is_readable(path: string, { gid: group }: User): boolean {
  const { mode, gid } = lstatSync(path);
  return (mode & 0o004) !== 0 || (gid === group && (mode & 0o040) !== 0);
}

/** The files of a configuration, and its folder of rules if there is one. */
function files_of(file: string): { folder: string | undefined; files: string[] } {
  const folder = join(dirname(file), "rules.d");
  if (look_at(folder)?.isDirectory() !== true) return { folder: undefined, files: [file] };
  const names = readdirSync(folder).filter((name) => name.endsWith(".json") && !name.startsWith("."));
  return { folder, files: [file, ...names.map((name) => join(folder, name))] };
}

/**
 * @param init that starts the helper; systemd starts it unprivileged, so that it reads the configuration as its own user
 * @param answer of the helper that runs with it
 */
export function check_config({ file, known, rules, faults }: Reading, answer: Answer, init?: string): readonly Result[] {
  if (rules === undefined) {
    const unseen = process.getuid?.() !== 0 && faults.every((fault) => fault.includes("cannot be read by this user"));
    if (unseen) return [unknown(`needs root: ${faults.join("; ")}`, "sudo lowportd doctor")];
    if (look_at(file) === undefined) return [wrong(`there is no ${file}`, "sudo lowportd install writes one")];
    const runs = answer.state === "running" ? "; the helper that runs keeps its rules until then, and would not start again" : "";
    return faults.map((fault) => wrong(fault, `put it right (lowportd check-config), then ${tell("reload", init)}${runs}`));
  }
  const { folder, files } = files_of(file);
  const needed = [dirname(file), ...(folder === undefined ? [] : [folder]), ...files];
  const closed = known === undefined ? [] : needed.filter((path) => !is_readable(path, known.user));
  const harm = init === "systemd" ? "its next start fails, and a reload takes no new rules" : "a reload takes no new rules";
  const found = closed.map((path) =>
    wrong(
      `${path} cannot be read by ${known?.user.name}: ${harm}`,
      `chmod ${path === file || files.includes(path) ? "o+r" : "o+rx"} ${path}`,
    ),
  );
  const loaded = Date.parse(answer.policyLoadedAt ?? "");
  for (const path of files)
    if (lstatSync(path).mtimeMs > loaded)
      found.push(wrong(`${path} was changed after the helper read it, at ${answer.policyLoadedAt}`, tell("reload", init)));
  return unless_wrong(found, `${file} is valid and root's alone, ${rules} ${rules === 1 ? "rule" : "rules"}`);
}
