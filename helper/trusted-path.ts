/**
 * Whether a path can be believed to be root's: every component from / on is owned by root, is not a symbolic link, and
 * cannot be written by anyone else. A sticky directory (/tmp) passes, because there nobody can replace what root owns.
 */

import { closeSync, constants, fstatSync, lstatSync, openSync, readFileSync, type Stats } from "node:fs";
import { errno_of } from "../shared/errors.js";

const WRITABLE_BY_OTHERS = 0o022;
const STICKY = 0o1000;

function distrust_stats(stats: Stats): string | undefined {
  if (stats.isSymbolicLink()) return "is a symbolic link; name the real path";
  if (stats.uid !== 0) return `is owned by uid ${stats.uid} and not by root; chown root it`;
  if ((stats.mode & WRITABLE_BY_OTHERS) !== 0 && !(stats.isDirectory() && (stats.mode & STICKY) !== 0))
    return `can be written by others than root (mode ${(stats.mode & 0o7777).toString(8).padStart(4, "0")}); chmod go-w it`;
  return undefined;
}

/** @returns what is wrong with the first component that is not root's alone, or undefined. @throws ENOENT and the like */
export function distrust(path: string): string | undefined {
  const parts = path.split("/").filter((part) => part !== "");
  if (!path.startsWith("/") || parts.includes("..") || parts.includes(".")) return `${path} is not a plain absolute path`;
  for (let depth = 0; depth <= parts.length; depth++) {
    const component = `/${parts.slice(0, depth).join("/")}`;
    const why = distrust_stats(lstatSync(component));
    if (why !== undefined) return `${component} ${why}`;
  }
  return undefined;
}

/** The text of a regular file that is root's alone. @throws Error that says what is wrong */
export function read_trusted(path: string): string {
  try {
    const why = distrust(path);
    if (why !== undefined) throw new Error(why);
    const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      if (!fstatSync(fd).isFile()) throw new Error("is not a regular file");
      return readFileSync(fd, "utf8");
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if (errno_of(error) === "ENOENT")
      throw new Error("there is no such file; `sudo lowportd install` writes one", { cause: error });
    if (errno_of(error) === "EACCES")
      throw new Error("cannot be read by this user; chmod o+r it and o+x its folders", { cause: error });
    throw error;
  }
}
