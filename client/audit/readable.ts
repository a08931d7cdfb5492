/** Why a user may not read the audit log, and which group may. */
import { statSync } from "node:fs";
import { dirname } from "node:path";
import { group_of } from "../advice.js";
import { FORBIDDEN } from "../command/exit.js";

const GROUP_READS = 0o040;

/** The group that may read the log, by the file or, where that cannot be seen, by its folder. */
function reading_group(path: string): string | undefined {
  for (const each of [path, dirname(path)]) {
    try {
      const { gid, mode } = statSync(each);
      return (mode & GROUP_READS) === 0 ? undefined : group_of(gid);
    } catch {
      // The folder is closed to this user.
    }
  }
  return "adm";
}

/** @returns the error to tell in place of one of the file system's that says no more than EACCES */
export function explain_unreadable(error: unknown): unknown {
  const { code, path } = error as NodeJS.ErrnoException;
  if (code === undefined || path === undefined || !FORBIDDEN.has(code)) return error;
  const group = reading_group(path);
  const who =
    group === undefined ? "only root and the helper may (its folder is set up by hand)" : `group "${group}" may, and root`;
  const join = group === undefined ? "sudo" : `sudo, or sudo usermod -aG ${group} $USER and a new login`;
  return Object.assign(new Error(`${path} cannot be read by this user: ${who}; ${join}`), { code });
}
