/**
 * The configuration: read from files that are root's alone, validated, and resolved to what the helper works with. Every
 * fault is found in one go and told as `file: /json/pointer: what is wrong`. Reads only; so `check-config` is this.
 */
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import type { ConfigFile, RuleEntry } from "../shared/config-schema.js";
import { errno_of, message_of } from "../shared/errors.js";
import { config as validate_config, rules as validate_rules } from "../shared/generated/config.js";
import type { Limits } from "../shared/protocol.js";
import { describe, type Validate } from "../shared/validate.js";
import { make_policy, type Policy, type Rule } from "./policy.js";
import { find_group, find_user, type User } from "./posix.js";
import { read_ids, read_rule } from "./rules.js";
import { read_trusted } from "./trusted-path.js";

export interface Config {
  readonly socket: { readonly path: string; readonly gid: number; readonly mode: number };
  readonly user: User;
  readonly operators: { readonly uids: ReadonlySet<number>; readonly gids: ReadonlySet<number> };
  readonly audit: ConfigFile["audit"];
  readonly limits: Limits;
  readonly policy: Policy;
  /** Members that take a restart to change, as text, so that a reload can tell that they did. */
  readonly fixed: string;
}

/** What the addon takes for an id (int32). */
const MAX_OWN_ID = 2_147_483_647;
/** A Unix socket's path has 107 bytes (unix(7)), of which the new one's suffix takes four. */
const MAX_SOCKET_PATH = 103;

/** What is wrong with the configuration: a line a fault. */
export class ConfigFault extends Error {
  readonly faults: readonly string[];
  constructor(faults: readonly string[]) {
    super(faults.join("\n"));
    this.name = "ConfigFault";
    this.faults = faults;
  }
}

/** Faults of one file. */
type Note = (pointer: string, message: string) => void;

function read_json(file: string, validate: Validate, note: Note): unknown {
  let text: string;
  try {
    text = read_trusted(file);
  } catch (error) {
    note("/", message_of(error));
    return undefined;
  }
  try {
    const value: unknown = JSON.parse(text);
    if (validate(value)) return value;
    const seen = new Set<string>();
    for (const finding of validate.errors ?? []) {
      const { path, message } = describe(finding);
      if (!seen.has(path)) note(path || "/", message); // anyOf tells of each branch; the first says it
      seen.add(path);
    }
  } catch (error) {
    note("/", `is not JSON: ${message_of(error)}`);
  }
  return undefined;
}

/** The files of rules.d in name order; none if there is no such folder. */
function rule_files(folder: string, note: Note): string[] {
  try {
    const names = readdirSync(folder).filter((name) => name.endsWith(".json") && !name.startsWith("."));
    return names.toSorted().map((name) => join(folder, name));
  } catch (error) {
    if (errno_of(error) !== "ENOENT") note("/", message_of(error));
    return [];
  }
}

/** @param file absolute path. @throws ConfigFault with every fault */
export function load_config(file: string): Config {
  const faults: string[] = [];
  const note_in =
    (path: string): Note =>
    (pointer, message) =>
      faults.push(`${path}: ${pointer}: ${message}`);
  const note = note_in(file);
  const names = new Set<string>();

  function read_rules(entries: readonly RuleEntry[], path: string): Rule[] {
    return entries.map((entry, i) => {
      if (names.has(entry.name)) note_in(path)(`/rules/${i}/name`, `there is another rule "${entry.name}"; names are unique`);
      names.add(entry.name);
      return read_rule(entry, (pointer, message) => note_in(path)(`/rules/${i}${pointer}`, message));
    });
  }

  const main = read_json(file, validate_config, note) as ConfigFile | undefined;
  const rules = main === undefined ? [] : read_rules(main.rules, file);
  const folder = join(dirname(file), "rules.d");
  for (const path of rule_files(folder, note_in(folder))) {
    const more = read_json(path, validate_rules, note_in(path)) as { rules: RuleEntry[] } | undefined;
    if (more !== undefined) rules.push(...read_rules(more.rules, path));
  }
  if (main === undefined) throw new ConfigFault(faults);

  const user = find_user(main.user);
  if (user === undefined) note("/user", `there is no user "${main.user}"; create it with useradd --system, or name another`);
  else if (user.uid === 0 || user.gid === 0)
    note("/user", "must not be root nor of its group: the helper gives up root by becoming this user");
  else if (Math.max(user.uid, user.gid) > MAX_OWN_ID) note("/user", `has an id above ${MAX_OWN_ID}; name another`);
  if (Buffer.byteLength(main.socket.path) > MAX_SOCKET_PATH)
    note("/socket/path", `is longer than ${MAX_SOCKET_PATH} bytes; take a shorter one`);
  const group = find_group(main.socket.group);
  if (group === undefined)
    note("/socket/group", `there is no group "${main.socket.group}"; create it with groupadd --system, or name another`);
  const { users, groups } = main.operators;
  // A host need not have the group that is only the default.
  const present = groups.filter((name) => name !== "adm" || find_group(name) !== undefined);
  const uids = read_ids("user", users, "/operators/users", note);
  const gids = read_ids("group", present, "/operators/groups", note);
  if (user === undefined || group === undefined || faults.length > 0) throw new ConfigFault(faults);
  return {
    socket: { path: main.socket.path, gid: group.gid, mode: Number.parseInt(main.socket.mode, 8) },
    user,
    operators: { uids, gids },
    audit: main.audit,
    limits: main.limits,
    policy: make_policy(rules),
    fixed: JSON.stringify([main.socket, main.user, main.audit]),
  };
}
