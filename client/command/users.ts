/**
 * Names of users, from /etc/passwd alone: enough for people to read, and nothing that the helper decides by. Users from
 * elsewhere (LDAP) have a number.
 */
import { readFileSync } from "node:fs";
import { read_number, Usage } from "./command.js";
import { printable } from "./terminal.js";

const MAX_UID = 4_294_967_295;

/** The first entry of each name and of each uid counts, as for getpwnam(3) and getpwuid(3). */
export class Users {
  readonly #names = new Map<number, string>();
  readonly #uids = new Map<string, number>();

  constructor(file = "/etc/passwd") {
    let text = "";
    try {
      text = readFileSync(file, "utf8");
    } catch {
      // Then they have numbers.
    }
    for (const line of text.split("\n")) {
      const [name = "", , id = ""] = line.split(":");
      const uid = Number(id);
      if (name === "" || !/^\d+$/.test(id) || uid > MAX_UID) continue;
      if (!this.#names.has(uid)) this.#names.set(uid, name);
      if (!this.#uids.has(name)) this.#uids.set(name, uid);
    }
  }

  /** "33 (www-data)", or "33" where it has no name. */
  describe(uid: number): string {
    const name = this.#names.get(uid);
    return name === undefined ? String(uid) : `${uid} (${printable(name)})`;
  }

  /** @returns undefined if there is no such user */
  uid_of(name: string): number | undefined {
    return this.#uids.get(name);
  }
}

/** Options that say which user is meant. */
export const WHO = {
  uid: { type: "string", value: "UID", help: "that user, by number" },
  user: { type: "string", value: "NAME", help: "that user, by name" },
} as const;

/** The uid that --uid or --user says; undefined without them. @throws Usage */
export function read_who({ uid, user }: { uid?: string | undefined; user?: string | undefined }): number | undefined {
  if (uid !== undefined && user !== undefined) throw new Usage("--uid and --user say the same; give one");
  if (uid !== undefined) return read_number(uid, "--uid", MAX_UID);
  if (user === undefined) return undefined;
  const found = new Users().uid_of(user);
  if (found === undefined) throw new Usage(`/etc/passwd has no user "${user}"; one from elsewhere is given with --uid`);
  return found;
}
