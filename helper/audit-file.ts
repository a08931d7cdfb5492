/**
 * The audit log's file: where its chain stands, and appending to it whole or not at all. All of it happens as the service
 * user, who owns the folder. A single writer (flock), never through a symbolic link.
 */
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readSync,
  statSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { FIRST_PREV, type Head, unseal } from "../shared/chain.js";
import { message_of } from "../shared/errors.js";
import { native } from "../shared/native.js";

const NEWLINE = 10;
/** Read at first to find the last line; more, if that is not enough. */
const TAIL_BYTES = 65_536;
/** Bytes of a torn line that the start record quotes. */
const MAX_QUOTED = 4096;
const NOTHING = Buffer.alloc(0);
/** Characters of a text that surely fits `appendText`: one has at most three bytes. */
const MAX_SHORT = 21_000;
const S_ISGID = 0o2000;
const { O_APPEND, O_CREAT, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDWR } = constants;

/** What stands at the end of a log. */
interface Tail {
  /** Where the chain stands; undefined if the file has no whole line. */
  readonly head: Head | undefined;
  /** Bytes after the last newline: a line whose writing was cut off. */
  readonly torn: Buffer;
}

/** The last bytes of a file, as many as it takes to have two newlines in them, or all. */
function read_end(fd: number): Buffer {
  const { size } = fstatSync(fd);
  for (let wanted = TAIL_BYTES; ; wanted *= 4) {
    const bytes = Buffer.alloc(Math.min(size, wanted));
    const text = bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, size - bytes.length));
    if (bytes.length === size || text.lastIndexOf(NEWLINE, text.lastIndexOf(NEWLINE) - 1) >= 0) return text;
  }
}

function read_tail(fd: number): Tail {
  const text = read_end(fd);
  const end = text.lastIndexOf(NEWLINE);
  const torn = text.subarray(end + 1);
  if (end < 0) return { head: undefined, torn };
  const head = unseal(text.subarray(end === 0 ? 0 : text.lastIndexOf(NEWLINE, end - 1) + 1, end));
  if (head === undefined)
    throw new Error(
      "its last line is no audit record, so it was edited; look at it with `lowport audit verify`, then move it away",
    );
  return { head: { seq: head.seq, hash: head.hash }, torn };
}

/** What logrotate makes of a name, with and without dateext. Other files beside the log are not looked at. */
const ROTATED = /^(\.\d+|-\d{8}[\d.-]*)$/;

/** Runs `work` on a file that rotation left. @returns undefined if it is no regular file */
function with_rotated<T>(file: string, work: (fd: number) => T): T | undefined {
  const fd = openSync(file, O_RDWR | O_NOFOLLOW | O_NONBLOCK);
  try {
    return fstatSync(fd).isFile() ? work(fd) : undefined;
  } catch (error) {
    throw new Error(`${file}, which it goes on from: ${message_of(error)}`, { cause: error });
  } finally {
    closeSync(fd);
  }
}

/** The tail of the newest of the files that rotation left beside `path`, so that the chain goes on over it. Cuts it if torn. */
function find_predecessor(path: string): Tail | undefined {
  const name = basename(path);
  const rotated = readdirSync(dirname(path)).filter((other) => other.startsWith(name) && ROTATED.test(other.slice(name.length)));
  const tails = rotated.map((other) => ({
    file: join(dirname(path), other),
    ...with_rotated(join(dirname(path), other), read_tail),
  }));
  const newest = tails.toSorted((a, b) => (b.head?.seq ?? 0) - (a.head?.seq ?? 0))[0];
  if (newest?.head === undefined || newest.torn === undefined) return undefined;
  const { file, head, torn } = newest;
  if (torn.length > 0) with_rotated(file, (fd) => ftruncateSync(fd, fstatSync(fd).size - torn.length));
  return { head, torn };
}

export interface AuditFile {
  readonly fd: number;
  /** Device and inode: which file it is, whatever its name. */
  readonly identity: string;
  readonly head: Head;
  /** What was cut off the end of the file: the torn last line of a helper that died while writing it. */
  readonly torn: string;
  /** Bytes at the end of the file that are of a write that failed. */
  unfinished: number;
}

/** So that a new file is still there after a power failure (fsync(2)). */
function sync_folder(folder: string): void {
  const fd = openSync(folder, O_DIRECTORY);
  fsyncSync(fd);
  closeSync(fd);
}

/**
 * Opens the log for appending and finds out where its chain stands.
 * @param before the file in use; undefined is returned if it still is the one at `path`
 * @throws Error that says what is wrong
 */
export function open_audit_file(path: string): AuditFile;
export function open_audit_file(path: string, before: AuditFile): AuditFile | undefined;
export function open_audit_file(path: string, before?: AuditFile): AuditFile | undefined {
  // For a group to read only where the folder says which (setgid): the helper's own group is the one that apps are in.
  const mode = (statSync(dirname(path)).mode & S_ISGID) === 0 ? 0o600 : 0o640;
  const fd = openSync(path, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK, mode);
  let keep = false;
  try {
    const stats = fstatSync(fd);
    if (!stats.isFile()) throw new Error("is not a regular file");
    if (stats.uid !== process.geteuid?.()) throw new Error(`is owned by uid ${stats.uid} and not by the helper's user`);
    const identity = `${stats.dev}:${stats.ino}`;
    if (before?.identity === identity) return undefined;
    if (native().lockFile(fd) < 0) throw new Error("another helper is writing it; each needs a log of its own");
    const { head, torn } = read_tail(fd);
    if (before !== undefined && (head ?? torn.length > 0))
      throw new Error("the new file is not empty; move it away and signal again");
    if (torn.length > 0) ftruncateSync(fd, stats.size - torn.length);
    if (stats.size === 0) sync_folder(dirname(path));
    const known = head ?? before?.head;
    const predecessor = known === undefined ? find_predecessor(path) : undefined;
    keep = true;
    return {
      fd,
      identity,
      head: known ?? predecessor?.head ?? { seq: 0, hash: FIRST_PREV },
      torn: Buffer.concat([predecessor?.torn ?? NOTHING, torn]).toString("utf8", 0, MAX_QUOTED),
      unfinished: 0,
    };
  } finally {
    if (!keep) closeSync(fd);
  }
}

/** Takes the rest of a line that could not be written whole out of the file again. */
function cut_unfinished(file: AuditFile): void {
  if (file.unfinished > 0) ftruncateSync(file.fd, fstatSync(file.fd).size - file.unfinished);
  file.unfinished = 0;
}

/**
 * Appends all of `text` or nothing: what a full disk let in of it is taken out again, if need be before the next one.
 * @throws what the kernel says
 */
export function append_whole(file: AuditFile, text: string): void {
  cut_unfinished(file);
  let written = text.length > MAX_SHORT ? 0 : Math.max(0, native().appendText(file.fd, text));
  if (written === Buffer.byteLength(text)) return;
  const bytes = Buffer.from(text);
  try {
    while (written < bytes.length) written += writeSync(file.fd, bytes, written);
  } catch (error) {
    file.unfinished = written;
    cut_unfinished(file);
    throw error;
  }
}
