/**
 * The configuration that an install will leave: the admin's own if there is one, plus the rules of --allow. It is judged as a whole
 * by the code that the daemon uses, on a copy in a folder of root's own, before anything is changed.
 */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { ConfigFile } from "../../shared/config-schema.js";
import { message_of } from "../../shared/errors.js";
import { DEFAULT_CONFIG } from "../../shared/protocol.js";
import { ConfigFault, load_config } from "../config.js";
import { find_group, find_user } from "../posix.js";
import { read_trusted } from "../trusted-path.js";
import { type Allowed, add_rules } from "./allow.js";
import { LIBRARY } from "./sources.js";
import { look_at, Refusal } from "./standing.js";
import { type Target } from "./targets.js";

/** The user and the group that install makes, if the configuration does not name others. */
export const ACCOUNT = "lowport";
export const RULES_FOLDER = join(dirname(DEFAULT_CONFIG), "rules.d");
const OWN_RULES = join(RULES_FOLDER, "50-install.json");
/** Files of the configuration that install may write. */
export const CONFIG_FILES: readonly string[] = [DEFAULT_CONFIG, OWN_RULES];
/** How a folder begins in which a configuration is judged. */
export const STAGE = "/run/lowport-config-";
/** An id that stands for an account which install has yet to make. */
const NOT_YET = 65_534;
/** What can be written into units and scripts without quoting. */
const PLAIN = /^[A-Za-z0-9._/@:+-]+$/;

/** What the rest of install has to know of the configuration. */
export interface Settings {
  readonly user: string;
  readonly group: string;
  readonly socket: string;
  readonly socketMode: string;
  readonly auditLog: string;
  /** How many rules there are. */
  readonly rules: number;
  /** Files to write; they may be there already. */
  readonly files: readonly Target[];
}

type Json = { [key: string]: unknown };
const is_object = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value);

function parse(file: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ConfigFault([`${file}: /: is not JSON: ${message_of(error)}`]);
  }
}

function read(file: string): string {
  try {
    if (look_at(file)?.isSocket() === true) throw new Error("is a socket");
    return read_trusted(file);
  } catch (error) {
    throw new ConfigFault([`${file}: /: ${message_of(error)}`]);
  }
}

/** The texts of all files of the configuration by path; the first is lowport.json. */
function read_present(): Map<string, string> {
  const first = { $schema: `${LIBRARY}/current/shared/generated/config.schema.json`, rules: [] };
  const texts = new Map<string, string>();
  texts.set(
    DEFAULT_CONFIG,
    look_at(DEFAULT_CONFIG) === undefined ? `${JSON.stringify(first, undefined, 2)}\n` : read(DEFAULT_CONFIG),
  );
  const folder = look_at(RULES_FOLDER);
  if (folder === undefined) return texts;
  if (!folder.isDirectory()) throw new Refusal(`${RULES_FOLDER} is no folder; move it away`);
  for (const name of readdirSync(RULES_FOLDER).filter((entry) => entry.endsWith(".json") && !entry.startsWith(".")))
    texts.set(join(RULES_FOLDER, name), read(join(RULES_FOLDER, name)));
  return texts;
}

/** Puts the rules of --allow into the file that holds them. */
function allow(texts: Map<string, string>, wanted: readonly Allowed[]): void {
  if (wanted.length === 0) return;
  const rules_of = (file: string, text: string): readonly unknown[] => {
    const value = parse(file, text);
    return is_object(value) && Array.isArray(value.rules) ? value.rules : [];
  };
  const others = [...texts].filter(([file]) => file !== OWN_RULES).flatMap(([file, text]) => rules_of(file, text));
  const taken = new Set(others.map((rule) => (is_object(rule) ? String(rule.name) : "")));
  const before = texts.get(OWN_RULES);
  const value = before === undefined ? { rules: [] } : parse(OWN_RULES, before);
  if (!is_object(value) || !Array.isArray(value.rules)) return; // which load_config will say
  const rules = add_rules(value.rules, wanted, taken);
  if (before === undefined || rules.length > value.rules.length)
    texts.set(OWN_RULES, `${JSON.stringify({ ...value, rules }, undefined, 2)}\n`);
}

/** What of `main` names an account that install has yet to make, with an id instead, so that it can be judged already. */
function absent_accounts(main: Json): Json {
  const socket = main.socket ?? {};
  const makes_user = (main.user ?? ACCOUNT) === ACCOUNT && find_user(ACCOUNT) === undefined;
  const makes_group = is_object(socket) && (socket.group ?? ACCOUNT) === ACCOUNT && find_group(ACCOUNT) === undefined;
  return { ...(makes_user ? { user: NOT_YET } : {}), ...(makes_group ? { socket: { ...socket, group: NOT_YET } } : {}) };
}

/** Judges the texts as the daemon would; the account that install makes counts as being there. @throws ConfigFault */
function judge(texts: ReadonlyMap<string, string>): Omit<Settings, "files"> {
  const main = parse(DEFAULT_CONFIG, texts.get(DEFAULT_CONFIG) ?? "");
  const absent = is_object(main) ? absent_accounts(main) : {};
  const stage = mkdtempSync(STAGE);
  try {
    const in_stage = (path: string) => join(stage, path.slice(dirname(DEFAULT_CONFIG).length));
    mkdirSync(in_stage(RULES_FOLDER));
    for (const [path, content] of texts) writeFileSync(in_stage(path), content, { mode: 0o600 });
    if (is_object(main)) writeFileSync(in_stage(DEFAULT_CONFIG), JSON.stringify({ ...main, ...absent }));
    const { fixed, policy } = load_config(in_stage(DEFAULT_CONFIG));
    const [socket, user, audit] = JSON.parse(fixed) as [ConfigFile["socket"], ConfigFile["user"], ConfigFile["audit"]];
    return {
      user: "user" in absent ? ACCOUNT : String(user),
      group: "socket" in absent ? ACCOUNT : String(socket.group),
      socket: socket.path,
      socketMode: socket.mode,
      auditLog: audit.path,
      rules: policy.rules.length,
    };
  } catch (error) {
    if (!(error instanceof ConfigFault)) throw error;
    throw new ConfigFault(error.faults.map((fault) => fault.replaceAll(stage, dirname(DEFAULT_CONFIG))));
  } finally {
    rmSync(stage, { recursive: true });
  }
}

/** The daemon reads it as its own user, at its start or at SIGHUP. @throws Refusal */
function refuse_unreadable(paths: Iterable<string>, gid: number | undefined): void {
  for (const path of paths) {
    const stats = look_at(path);
    if (stats === undefined) continue;
    const bits = stats.isDirectory() ? 0o5 : 0o4;
    if ((stats.mode & bits) === bits || (stats.gid === gid && ((stats.mode >> 3) & bits) === bits)) continue;
    throw new Refusal(`${path} cannot be read by the helper's user; chmod o+r${bits === 5 ? "x" : ""} it`);
  }
}

/** @throws ConfigFault if the configuration, with what is to be added, is not one that the daemon would take */
export function plan_settings(wanted: readonly Allowed[]): Settings {
  const texts = read_present();
  allow(texts, wanted);
  const settings = judge(texts);
  for (const value of [settings.user, settings.group, settings.socket, settings.auditLog])
    if (!PLAIN.test(value))
      throw new Refusal(`${DEFAULT_CONFIG}: "${value}" has characters that units and scripts cannot hold; take a plain name`);
  refuse_unreadable([dirname(DEFAULT_CONFIG), RULES_FOLDER, ...texts.keys()], find_user(settings.user)?.gid);
  const files = CONFIG_FILES.flatMap((path) => {
    const text = texts.get(path);
    const present = look_at(path) !== undefined;
    if (text === undefined || (present && text === read(path))) return [];
    return [{ path, text, mode: present ? (look_at(path)?.mode ?? 0) & 0o777 : 0o644 }];
  });
  return { ...settings, files };
}
