/**
 * The audit log's files, for whoever may read them. The folder belongs to the helper's user and the reader may be root, so what
 * stands there is not trusted: only regular files are read, never through a symbolic link, nothing waits (a fifo), and nothing
 * that a file holds, compressed or not, takes more memory than a line.
 */
import { closeSync, constants, fstatSync, lstatSync, openSync, readdirSync, readSync, type Stats } from "node:fs";
import { basename, dirname, join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { errno_of, message_of } from "../../shared/errors.js";

/** Where the helper writes it, unless its configuration says otherwise. */
export const DEFAULT_AUDIT_LOG = "/var/log/lowport/audit.log";
/** Bytes of the longest record, with room: one of a peer that is in 65,536 groups (NGROUPS_MAX) has 720 KiB. */
export const MAX_LINE_BYTES = 2 << 20;
const CHUNK_BYTES = 1 << 18;
const NEWLINE = 10;
/** What a file of gzip begins with (RFC 1952), and no JSON does. */
const GZIP = Buffer.from([0x1f, 0x8b]);
const STDIN = 0;
const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;

/** What stands there cannot be a log, or not all of it can be read. */
export class BrokenFile extends Error {
  /** A line that is longer than any record, and so has no end worth looking for. */
  readonly endless: boolean;
  constructor(message: string, { endless = false, cause }: { endless?: boolean; cause?: unknown } = {}) {
    super(message, { cause });
    this.endless = endless;
  }
}

/** An open file of the log. */
export interface LogFile {
  readonly path: string;
  readonly fd: number;
  /** As it was when it was opened. */
  readonly stats: Stats;
  readonly compressed: boolean;
}

export const same_file = (a: Pick<Stats, "dev" | "ino">, b: Pick<Stats, "dev" | "ino">): boolean =>
  a.dev === b.dev && a.ino === b.ino;

function refuse(path: string, stats: Stats): void {
  const what = stats.isSymbolicLink() ? "a symbolic link" : stats.isDirectory() ? "a folder" : "no regular file";
  if (!stats.isFile()) throw new BrokenFile(`${path} is ${what}, and is not read`);
}

/** @param path "-" is stdin. @throws BrokenFile, or what the file system says */
export function open_log(path: string): LogFile {
  if (path === "-" || path === "/dev/stdin") return { path, fd: STDIN, stats: fstatSync(STDIN), compressed: false };
  refuse(path, lstatSync(path)); // before it is opened: to open a device can do something
  const fd = openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  try {
    const stats = fstatSync(fd);
    refuse(path, stats);
    const head = Buffer.alloc(GZIP.length);
    return { path, fd, stats, compressed: readSync(fd, head, 0, head.length, 0) === head.length && head.equals(GZIP) };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Closes a file; stdin stays open. */
export function close_log({ fd }: LogFile): void {
  if (fd !== STDIN) closeSync(fd);
}

function* chunks_of({ fd }: LogFile): Generator<Buffer> {
  for (let at = 0; ; ) {
    const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
    const got = readSync(fd, chunk, 0, chunk.length, fd === STDIN ? null : at);
    if (got === 0) return;
    at += got;
    yield chunk.subarray(0, got);
  }
}

async function* pieces_of(file: LogFile): AsyncGenerator<Buffer> {
  if (!file.compressed) return yield* chunks_of(file);
  const gunzip = createGunzip();
  const fed = pipeline(Readable.from(chunks_of(file)), gunzip);
  fed.catch(() => undefined); // it is thrown below
  try {
    for await (const piece of gunzip) yield piece as Buffer;
  } catch (error) {
    throw new BrokenFile(`the file cannot be decompressed: ${message_of(error)}`, { cause: error });
  }
}

/** The lines of a file without their newlines; `whole` is false for a last line that has none. @throws BrokenFile */
export async function* lines_of(file: LogFile): AsyncGenerator<{ bytes: Buffer; whole: boolean }> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const piece of pieces_of(file)) {
    let bytes = rest.length > 0 ? Buffer.concat([rest, piece]) : piece;
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE)) {
      yield { bytes: bytes.subarray(0, end), whole: true };
      bytes = bytes.subarray(end + 1);
    }
    if (bytes.length > MAX_LINE_BYTES) throw new BrokenFile("a line is longer than any record", { endless: true });
    rest = bytes;
  }
  if (rest.length > 0) yield { bytes: rest, whole: false };
}

/** The number of a record, by how its line begins; undefined if it is no record. */
export function seq_of(line: Buffer): number | undefined {
  const digits = /^\{"seq":(\d{1,15}),/.exec(line.toString("latin1", 0, 32))?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** The number of a file's first record; undefined if its first line is none. */
export async function first_seq(file: LogFile): Promise<number | undefined> {
  try {
    for await (const { bytes } of lines_of(file)) return seq_of(bytes);
  } catch (error) {
    if (!(error instanceof BrokenFile)) throw error;
  }
  return undefined;
}

/** @returns undefined if it has gone, or is none to be read */
export function open_if_log(path: string): LogFile | undefined {
  try {
    return open_log(path);
  } catch (error) {
    if (error instanceof BrokenFile || errno_of(error) === "ENOENT") return undefined;
    throw error;
  }
}

async function first_seq_at(path: string): Promise<number> {
  const file = open_if_log(path);
  if (file === undefined) return 0;
  try {
    return (await first_seq(file)) ?? 0;
  } finally {
    close_log(file);
  }
}

const by_date = (a: string, b: string) => (a < b ? -1 : 1);

/**
 * The files that rotation has made of a log (logrotate(8), with and without dateext, compressed by gzip or not), oldest first.
 * Where there is `audit.log.2` too, `audit.log.2.gz` is left out: it is being made, or was not finished.
 */
export async function find_rotated(path: string): Promise<string[]> {
  const name = basename(path);
  const ends = readdirSync(dirname(path)).flatMap((other) => (other.startsWith(name) ? other.slice(name.length) : []));
  const there = new Set(ends);
  const kept = ends.filter((end) => !(end.endsWith(".gz") && there.has(end.slice(0, -3))));
  const numbered = kept
    .filter((end) => /^\.\d{1,6}(\.gz)?$/.test(end))
    .toSorted((a, b) => parseInt(b.slice(1), 10) - parseInt(a.slice(1), 10));
  const dated = kept.filter((end) => /^-\d{8}[\d-]*(\.gz)?$/.test(end)).toSorted(by_date);
  const files = (some: readonly string[]) => some.map((end) => join(dirname(path), `${name}${end}`));
  const [numbers, dates] = [files(numbered), files(dated)];
  if (numbers[0] === undefined || dates[0] === undefined) return [...numbers, ...dates];
  // Rotation was changed from one way to the other.
  const numbers_first = (await first_seq_at(numbers[0])) <= (await first_seq_at(dates[0]));
  return numbers_first ? [...numbers, ...dates] : [...dates, ...numbers];
}

/**
 * The file that is, or was last, written to: that at the path, or after a rotation that the helper has not been told of yet the
 * newest of those that were moved away. @returns undefined if there is none. @throws BrokenFile, or what the file system says
 */
export async function find_newest(path: string): Promise<LogFile | undefined> {
  try {
    return open_log(path);
  } catch (error) {
    if (errno_of(error) !== "ENOENT") throw error;
  }
  try {
    for (const older of (await find_rotated(path)).toReversed()) {
      const file = open_if_log(older);
      if (file?.compressed === false) return file;
      if (file !== undefined) close_log(file);
    }
  } catch (error) {
    if (errno_of(error) !== "ENOENT") throw error;
  }
  return undefined;
}
