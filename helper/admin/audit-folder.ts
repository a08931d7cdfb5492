/**
 * The audit log's folder belongs to the service user while lowport is installed, and to root when it is not: the log outlives the
 * program, and the next install takes it over. The threat: root changing the owner of what a user has put there, so all is done
 * on open descriptors, of regular files with one name, and never through a symbolic link.
 */
import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { distrust } from "../trusted-path.js";
import { find_group_entry, find_user_entry } from "./account.js";
import type { Change } from "./changes.js";
import { look_at, Refusal, remove_tree, with_folder } from "./standing.js";

/** The folder that install cares for; another one in the configuration is the admin's. */
export const AUDIT_FOLDER = "/var/log/lowport";
const READERS = "adm";
const MODE = 0o2750;
const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;

/** Changes who owns the folder, and the files in it that `from` owns; all else in it stays as it is. */
function change_owner(from: number, to: number, gid: number): void {
  with_folder(AUDIT_FOLDER, (folder, at) => {
    const take = () => {
      fchownSync(folder, to, gid);
      fchmodSync(folder, MODE);
    };
    if (to === 0) take(); // root first: then nobody changes what is in it
    for (const name of readdirSync(at)) {
      if (!lstatSync(join(at, name)).isFile()) continue;
      const fd = openSync(join(at, name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
      const stats = fstatSync(fd);
      if (stats.isFile() && stats.nlink === 1 && stats.uid === from) fchownSync(fd, to, stats.gid);
      closeSync(fd);
    }
    take(); // changing an owner clears setgid
  });
}

/** Gives folder and files to root. */
export function give_to_root(): void {
  const { uid, gid } = lstatSync(AUDIT_FOLDER);
  if (uid !== 0) change_owner(uid, 0, gid);
}

/** Removes the folder and the log. */
export function remove_log(): void {
  give_to_root(); // so that nobody changes what is being removed
  remove_tree(AUDIT_FOLDER);
}

/** The change that makes the folder or takes it over; undefined if there is nothing to do. @throws Refusal */
export function plan_audit_folder(folder: string, user: string): Change | undefined {
  if (folder !== AUDIT_FOLDER) return undefined;
  const above = dirname(AUDIT_FOLDER);
  const { mode, uid } = lstatSync(above);
  // On some systems /var/log is the syslog group's too. Root neither runs nor reads what is in the folder.
  const why = uid === 0 && (mode & 0o002) === 0 ? distrust(dirname(above)) : distrust(above);
  if (why !== undefined) throw new Refusal(`${AUDIT_FOLDER}: ${why}`);
  const stats = look_at(AUDIT_FOLDER);
  const owner = find_user_entry(user)?.uid;
  const to = () => find_user_entry(user)?.uid ?? 0;
  const readers = () => find_group_entry(READERS)?.gid ?? 0;
  if (stats === undefined)
    return {
      says: `make the folder ${AUDIT_FOLDER} (${user}:${READERS}, 2750)`,
      apply: () => {
        mkdirSync(AUDIT_FOLDER, 0o700);
        change_owner(0, to(), readers());
      },
      undo: () => {
        if (look_at(AUDIT_FOLDER) !== undefined) remove_log(); // of a helper that nobody has asked yet
      },
    };
  if (!stats.isDirectory()) throw new Refusal(`${AUDIT_FOLDER} is no folder; move it away`);
  if (stats.uid === owner) return undefined;
  if (stats.uid !== 0)
    throw new Refusal(
      `${AUDIT_FOLDER} is owned by uid ${stats.uid} and neither by root nor by ${user}; look at it, then chown root it`,
    );
  if ((stats.mode & 0o022) !== 0) throw new Refusal(`${AUDIT_FOLDER} can be written by others than root; chmod go-w it`);
  return {
    says: `hand ${AUDIT_FOLDER} and the log in it over to ${user}`,
    apply: () => change_owner(0, to(), readers()),
    undo: () => {
      give_to_root();
      chmodSync(AUDIT_FOLDER, stats.mode & 0o7777);
    },
  };
}
