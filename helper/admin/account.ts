/**
 * The service user and group. The threat: a name that is taken. A `lowport` who can log in would own the audit log, and members of
 * a group that somebody else has made could ask the helper at once. So what is there must look like a service's account.
 */
import { readFileSync } from "node:fs";
import { load_posix } from "../posix.js";
import type { Change } from "./changes.js";
import { find_program, must_run, run_program } from "./programs.js";
import { ACCOUNT, type Settings } from "./settings.js";
import { Refusal } from "./standing.js";

/** The users of a passwd(5) text whose primary group that is, which the group's own entry does not list. */
export function primary_members(passwd: string, gid: number): string[] {
  return passwd.split("\n").flatMap((line) => {
    const [name = "", , , group] = line.split(":");
    return group === String(gid) && name !== ACCOUNT ? [name] : [];
  });
}

/** An entry of passwd(5). */
export interface UserEntry {
  readonly uid: number;
  readonly gid: number;
  readonly shell: string;
}
/** An entry of group(5). */
export interface GroupEntry {
  readonly gid: number;
  readonly members: readonly string[];
}
/** What install made itself, and uninstall will remove. */
export interface Made {
  readonly user: boolean;
  readonly group: boolean;
}

/** Of a host whose login.defs does not say. */
const LAST_SYSTEM_ID = 999;
const NO_LOGIN = /\/(nologin|false)$/;
/** Where systemd-sysusers reads who shall be there. */
export const SYSUSERS = "/etc/sysusers.d/lowport.conf";

/** The highest id of a service's account (login.defs(5)). */
export function last_system_id(login_defs: string, kind: "UID" | "GID"): number {
  const number = (name: string) => new RegExp(`^\\s*${name}\\s+(\\d+)`, "m").exec(login_defs)?.[1];
  const first_of_people = number(`${kind}_MIN`);
  return Number(number(`SYS_${kind}_MAX`) ?? (first_of_people === undefined ? LAST_SYSTEM_ID : Number(first_of_people) - 1));
}

/** What is wrong with a user of our name; undefined if it can be ours. */
export function judge_user({ uid, gid, shell }: UserEntry, last: number): string | undefined {
  if (uid === 0 || gid === 0) return "is root or of its group";
  if (uid > last) return `has uid ${uid}, which is a person's and no service's (above ${last})`;
  return NO_LOGIN.test(shell) ? undefined : `can log in (its shell is "${shell}")`;
}

/** What is wrong with a group of our name; undefined if it can be ours. */
export function judge_group({ gid, members }: GroupEntry, last: number, ours: boolean): string | undefined {
  if (gid === 0) return "is root's";
  if (gid > last) return `has gid ${gid}, which is no system group's (above ${last})`;
  return ours || members.length === 0 ? undefined : `has members (${members.join(", ")}), who could ask the helper`;
}

function look_up<T>(call: () => T): T | undefined {
  try {
    return call();
  } catch {
    return undefined; // "not found" has no code of its own
  }
}
export const find_user_entry = (name: string) => look_up<UserEntry>(() => load_posix().getpwnam(name));
export const find_group_entry = (name: string) => look_up<GroupEntry>(() => load_posix().getgrnam(name));

/** With those whose primary group it is. */
function all_members(group: GroupEntry): GroupEntry {
  const passwd = look_up(() => readFileSync("/etc/passwd", "utf8")) ?? "";
  return { gid: group.gid, members: [...new Set([...group.members, ...primary_members(passwd, group.gid)])] };
}

function read_login_defs(): string {
  return look_up(() => readFileSync("/etc/login.defs", "utf8")) ?? "";
}

async function make_group(): Promise<void> {
  if (find_program("groupadd") !== undefined) await must_run("groupadd", "--system", ACCOUNT);
  else await must_run("addgroup", "-S", ACCOUNT);
}

async function make_user(): Promise<void> {
  const shell = find_program("nologin") ?? "/bin/false";
  if (find_program("useradd") !== undefined) {
    const options = ["--gid", ACCOUNT, "--home-dir", "/", "--no-create-home", "--shell", shell, "--comment", "lowport helper"];
    await must_run("useradd", "--system", ...options, ACCOUNT);
  } else await must_run("adduser", "-S", "-D", "-H", "-h", "/", "-s", shell, "-G", ACCOUNT, "-g", "lowport helper", ACCOUNT);
}

/** Removes the group, if it is there. */
export async function remove_group(): Promise<void> {
  if (find_group_entry(ACCOUNT) === undefined) return;
  await must_run(find_program("groupdel") !== undefined ? "groupdel" : "delgroup", ACCOUNT);
}

/** Removes the user, if it is there. Some systems remove its group along with it. */
export async function remove_user(): Promise<void> {
  if (find_user_entry(ACCOUNT) === undefined) return;
  const tool = find_program("userdel") !== undefined ? "userdel" : "deluser";
  const { code, output } = await run_program(tool, [ACCOUNT]);
  if (find_user_entry(ACCOUNT) !== undefined) throw new Error(`${tool} ${ACCOUNT}: exit ${code}: ${output}`);
}

/**
 * The changes that make what is missing of the account.
 * @param before what an earlier install has made
 * @param sysusers whether systemd-sysusers does it, from a file that another change has written
 * @throws Refusal if the name is taken
 */
export function plan_account(settings: Settings, before: Made, sysusers: boolean): { changes: Change[]; made: Made } {
  const wants_user = settings.user === ACCOUNT;
  const wants_group = wants_user || settings.group === ACCOUNT;
  const [user, group] = [find_user_entry(ACCOUNT), find_group_entry(ACCOUNT)];
  const login_defs = read_login_defs();
  const in_use = (kind: string, why: string) =>
    new Refusal(
      `the ${kind} ${ACCOUNT} is there already and ${why}; rename it, or name another in "user" and "socket.group" of the configuration`,
    );
  const bad_user = wants_user && user !== undefined ? judge_user(user, last_system_id(login_defs, "UID")) : undefined;
  if (bad_user !== undefined) throw in_use("user", bad_user);
  const bad_group =
    wants_group && group !== undefined
      ? judge_group(all_members(group), last_system_id(login_defs, "GID"), before.group)
      : undefined;
  if (bad_group !== undefined) throw in_use("group", bad_group);

  const changes: Change[] = [];
  const [no_user, no_group] = [wants_user && user === undefined, wants_group && group === undefined];
  const made = { user: before.user || no_user, group: before.group || no_group };
  const by_sysusers = sysusers && wants_user;
  if (by_sysusers && (no_user || no_group))
    changes.push({
      says: `make the system user and group ${ACCOUNT} (systemd-sysusers)`,
      apply: async () => void (await must_run("systemd-sysusers", SYSUSERS)),
      undo: async () => {
        if (no_user) await remove_user();
        if (no_group) await remove_group();
      },
    });
  if (!by_sysusers && no_group) changes.push({ says: `make the system group ${ACCOUNT}`, apply: make_group, undo: remove_group });
  if (!by_sysusers && no_user) changes.push({ says: `make the system user ${ACCOUNT}`, apply: make_user, undo: remove_user });
  return { changes, made };
}
