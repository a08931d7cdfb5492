/** What the admin has to do after an install: who may ask the helper is a matter of a group, and of logging in again. */
import { DEFAULT_SOCKET, VERSION } from "../../shared/protocol.js";
import { find_group_entry, find_user_entry } from "./account.js";
import type { Allowed } from "./allow.js";
import { install_command, is_installed } from "./newer.js";
import { find_program } from "./programs.js";
import { RULES_FOLDER, type Settings } from "./settings.js";
import { PROGRAM } from "./sources.js";

/** The users that the rules name and that are not in the group; of a rule for a group, its members. */
export function missing_members(allowed: readonly Allowed[], group: string): string[] {
  const wanted = allowed.flatMap(({ users = [], groups = [] }) => [
    ...users.map(String),
    ...groups.flatMap((name) => find_group_entry(String(name))?.members ?? []),
  ]);
  const entry = find_group_entry(group);
  return [...new Set(wanted)].filter((user) => {
    const known = find_user_entry(user);
    return known !== undefined && known.uid !== 0 && known.gid !== entry?.gid && entry?.members.includes(user) !== true;
  });
}

/** A new one that npm has installed. */
const BY_NPM = 'sudo "$(npm root --global)/lowport/dist/helper/main.cjs" install';

/** How the next upgrade begins: by the new program's own path, because sudo finds the installed one first. */
function how_to_upgrade(): string {
  if (is_installed())
    return `this was the installed lowport ${VERSION} itself; to upgrade it or its Node, run the new one by its path: ${BY_NPM}`;
  const how = install_command(process.execPath, PROGRAM);
  return `lowport has copies of its own of this program and of Node; to upgrade either, put the new one in its place and run ${how}`;
}

/** Lines for the admin, in order. */
export function next_steps(allowed: readonly Allowed[], { group, socket, rules }: Settings): string[] {
  const add = (user: string) =>
    find_program("usermod") === undefined ? `addgroup ${user} ${group}` : `usermod -aG ${group} ${user}`;
  const missing = missing_members(allowed, group);
  const where = socket === DEFAULT_SOCKET ? "" : ` --socket ${socket}`;
  const port = String(allowed[0]?.ports[0] ?? 80).split("-")[0];
  const nothing = "nothing is allowed to anybody yet: sudo lowportd install --allow USER:tcp:80, or rules of yours in";
  return [
    ...(rules === 0 ? [`${nothing} ${RULES_FOLDER} (man lowport.json)`] : []),
    ...(missing.length === 0 ? [] : [`who may ask the helper is in the group ${group}; add who shall:`]),
    ...missing.map((user) => `  sudo ${add(user)}`),
    ...(missing.length === 0 ? [] : ["it counts from the next login on, and for a service from its next start"]),
    `see it: lowport status${where}, and as the user that asks: lowport check ${allowed[0]?.protocols[0] ?? "tcp"} ${port}${where}`,
    how_to_upgrade(),
  ];
}
