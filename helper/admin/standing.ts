/**
 * What stands at the paths that root will write. The threat: what a local user has planted there. So each folder on the way must be
 * root's alone, and what stands at the path must be nothing or root's own regular file; anything else is refused by name and
 * left as it is.
 */
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fsyncSync,
  lstatSync,
  openSync,
  readdirSync,
  rmdirSync,
  rmSync,
  type Stats,
  unlinkSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { errno_of } from "../../shared/errors.js";
import { distrust } from "../trusted-path.js";

/** Install cannot go on because of how the system is; nothing was changed (exit 78). */
export class Refusal extends Error {}

/** A mode as it is written: 0644. */
export const octal = (mode: number): string => (mode & 0o7777).toString(8).padStart(4, "0");

/** What stands at a path, not followed; undefined if nothing. */
export function look_at(path: string): Stats | undefined {
  try {
    return lstatSync(path);
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(errno_of(error) ?? "")) return undefined;
    throw error;
  }
}

/** A word for what it is. */
export function kind_of(stats: Stats): string {
  if (stats.isSymbolicLink()) return "a symbolic link";
  if (stats.isDirectory()) return "a folder";
  if (stats.isFIFO()) return "a fifo";
  if (stats.isSocket()) return "a socket";
  return stats.isFile() ? "a file" : "a device";
}

/**
 * The names beside a file that is being replaced: the new one while it is written, the old one until all is done. What reads whole
 * folders must take no notice of them: a tilde at the end does for all but the inits, which want a dot (and that logrotate reads).
 */
export function beside(path: string): { readonly fresh: string; readonly old: string } {
  const name = join(dirname(path), `${dirname(path) === "/etc/init.d" ? "." : ""}${basename(path)}`);
  return { fresh: `${name}.lowport-new~`, old: `${name}.lowport-old~` };
}

/** Removes what an install that was killed has left beside these paths. */
export function remove_leftovers(paths: Iterable<string>): void {
  for (const path of paths)
    for (const left of Object.values(beside(path))) if (look_at(left)?.isDirectory() === false) rmSync(left);
}

/**
 * Which folders on the way to `folder` have to be made; what is there must be root's alone, and the nearest not even sticky,
 * for there anybody could put something before us. @throws Refusal
 */
export function missing_folders(folder: string): string[] {
  const missing: string[] = [];
  let at = folder;
  for (; look_at(at) === undefined; at = dirname(at)) missing.unshift(at);
  const why = distrust(at);
  if (why !== undefined) throw new Refusal(`${folder}: ${why}`);
  const stats = lstatSync(at);
  if (!stats.isDirectory()) throw new Refusal(`${folder}: ${at} is ${kind_of(stats)} and no folder; move it away`);
  if ((stats.mode & 0o022) !== 0) throw new Refusal(`${folder}: ${at} can be written by others than root; chmod go-w it`);
  return missing;
}

/** So that a rename outlives a power failure (fsync(2)). */
export function sync_folder(folder: string): void {
  const fd = openSync(folder, constants.O_DIRECTORY);
  fsyncSync(fd);
  closeSync(fd);
}

/** Works on an open folder: `at` is a path that stays this folder, whatever becomes of its name. A link is not followed. */
export function with_folder<T>(folder: string, work: (fd: number, at: string) => T): T {
  const fd = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    return work(fd, `/proc/self/fd/${fd}`);
  } finally {
    closeSync(fd);
  }
}

/** Each folder is root's alone before it is looked into, so that nobody can exchange what is in it for a link to elsewhere. */
function empty_folder(folder: string): void {
  with_folder(folder, (fd, at) => {
    fchownSync(fd, 0, 0);
    fchmodSync(fd, 0o700);
    for (const name of readdirSync(at)) {
      const path = join(at, name);
      if (lstatSync(path).isDirectory()) {
        empty_folder(path);
        rmdirSync(path);
      } else unlinkSync(path);
    }
  });
}

/** Removes a folder of root's with all that is in it, whoever owns that. */
export function remove_tree(folder: string): void {
  const stats = lstatSync(folder);
  if (!stats.isDirectory() || stats.uid !== 0) throw new Error(`${folder} is no folder of root's; it is left as it is`);
  empty_folder(folder);
  rmdirSync(folder);
}

/** Root's own regular file at `path`, or undefined if nothing is there. @throws Refusal if it is anything else */
export function look_at_file(path: string): Stats | undefined {
  const stats = look_at(path);
  if (stats === undefined) return undefined;
  if (!stats.isFile()) throw new Refusal(`${path} is ${kind_of(stats)} where a file is wanted; move it away`);
  if (stats.uid !== 0) throw new Refusal(`${path} is owned by uid ${stats.uid} and not by root; move it away`);
  if ((stats.mode & 0o022) !== 0)
    throw new Refusal(`${path} can be written by others than root (mode ${octal(stats.mode)}); move it away`);
  const ours = look_at(beside(path).old)?.ino === stats.ino ? 2 : 1;
  if (stats.nlink > ours) throw new Refusal(`${path} has ${stats.nlink} names (hard links); move it away`);
  return stats;
}
