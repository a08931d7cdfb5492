/**
 * What a user does about a helper that cannot be reached: start the service that is installed, install it, or join the
 * group that may connect. Read from files that everybody may read; what cannot be found out is said by its usual name.
 */
import { existsSync, readFileSync, statSync } from "node:fs";
import { read_plain_config } from "../shared/plain-config.js";

interface GroupEntry {
  name: string;
  gid: number;
  members: readonly string[];
}

/** A group by its id or name, from /etc/group; undefined if it stands elsewhere (LDAP) or cannot be read. */
function find_group(group: number | string): GroupEntry | undefined {
  try {
    for (const line of readFileSync("/etc/group", "utf8").split("\n")) {
      const [name = "", , id = "", members = ""] = line.split(":");
      if (name !== "" && (name === group || id === String(group))) return { name, gid: Number(id), members: members.split(",") };
    }
  } catch {
    // Then it is told by its number.
  }
  return undefined;
}

/** A group's name, or its number if it has none that everybody may read. */
export const group_of = (gid: number): string => find_group(gid)?.name ?? String(gid);

function user_name(): string {
  try {
    return process.getBuiltinModule("node:os").userInfo().username;
  } catch {
    return `uid ${process.getuid?.() ?? "?"}`;
  }
}

/** Groups of a user by its name, from /etc/passwd and /etc/group: what a new login would give. */
function is_member(user: string, entry: GroupEntry): boolean {
  if (entry.members.includes(user)) return true;
  try {
    return readFileSync("/etc/passwd", "utf8")
      .split("\n")
      .some((line) => line.startsWith(`${user}:`) && line.split(":")[3] === String(entry.gid));
  } catch {
    return false;
  }
}

/** Who may connect to a socket, and what this user does about it. */
export interface MissingGroup {
  readonly group: string;
  /** This process has it. */
  readonly has: boolean;
  readonly advice: string;
}

/** Which group may connect to the socket, and what this user does to be in it. */
export function find_missing_group(path: string): MissingGroup {
  let gid: number | undefined;
  try {
    gid = statSync(path).gid;
  } catch {
    // Not there, or in a folder that this user may not look into.
  }
  const entry = find_group(gid ?? read_plain_config()?.group ?? "lowport");
  const group = entry?.name ?? String(gid ?? "lowport");
  const user = user_name();
  if (process.getuid?.() === 0) return { group, has: true, advice: "root needs no group for it" };
  const mine = entry?.gid ?? gid;
  if (mine !== undefined && (process.getegid?.() === mine || process.getgroups?.().includes(mine) === true))
    return {
      group,
      has: true,
      advice: `user ${user} is in group "${group}" and may not connect all the same: see who may with ls -ld on it and its folder`,
    };
  if (entry !== undefined && is_member(user, entry))
    return { group, has: false, advice: `user ${user} is in group "${group}", but this session began before that: log in again` };
  const join = `sudo usermod -aG ${group} ${user}`;
  return {
    group,
    has: false,
    advice: `user ${user} must be in group "${group}" (${join}), which takes a new login to have effect`,
  };
}

/**
 * How the helper is started on this machine.
 * @param root where its files are looked for; another folder in tests
 */
export function how_to_start(root = ""): string {
  const there = (path: string) => existsSync(`${root}${path}`);
  if (there("/etc/systemd/system/lowport.service") && there("/run/systemd/system"))
    return "Start it with `sudo systemctl start lowport`";
  if (there("/etc/init.d/lowport"))
    return there("/run/openrc") ? "Start it with `sudo rc-service lowport start`" : "Start it with `sudo service lowport start`";
  if (there("/usr/local/lib/lowport/current")) return "Start it with `sudo lowportd run --daemon`";
  return "Install it as a service with `sudo lowportd install`, or start it by hand as root (lowportd)";
}
