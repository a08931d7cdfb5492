/**
 * Follows a log as it grows, over rotation. A file that was moved away is read to its end before the next one is begun, and
 * that is not before the next has something in it: until then the helper may still write to the old one. The next is found
 * by its first record's number, so that files that came and went in between are not skipped.
 * Only whole lines count: a torn one is read again when it has its end, or what the helper has put in its place.
 */
import { fstatSync, lstatSync, type Stats } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { errno_of } from "../../shared/errors.js";
import { read_at } from "./history.js";
import {
  BrokenFile,
  close_log,
  find_rotated,
  first_seq,
  type LogFile,
  lines_of,
  MAX_LINE_BYTES,
  open_if_log,
  same_file,
  seq_of,
} from "./log-file.js";
import { LogWatch } from "./watch.js";

const CHUNK_BYTES = 1 << 18;
const NEWLINE = 10;
/** Milliseconds until a record that seems to be missing is looked for again: its file may be between two names. */
const LOOK_AGAIN_MS = 50;

function stats_of(path: string): Stats | undefined {
  try {
    return lstatSync(path);
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(errno_of(error) ?? "")) return undefined;
    throw error;
  }
}

export class Follower {
  readonly #path: string;
  #file: LogFile | undefined;
  /** Where the last whole line that was read ends. */
  #at: number;
  /** The number of the last record that was read. */
  #seq: number;
  /** The last line that was read. */
  #last: Buffer | undefined;
  /** What comes next is another log, or this one written anew. */
  #anew = false;
  /** A record that is missing even after another look. */
  #missing: number | undefined;

  /** @param file where to begin, from `at` on; it is closed by the follower. @param last the last line before that */
  constructor(path: string, file: LogFile | undefined, at: number, last: Buffer | undefined) {
    this.#path = path;
    this.#file = file;
    this.#at = at;
    this.#last = last;
    this.#seq = (last && seq_of(last)) ?? 0;
    if (this.#seq === 0) this.#missing = 0;
  }

  /** Yields lines as they come, until the signal. @throws what the file system says */
  async *lines(signal: AbortSignal): AsyncGenerator<readonly Buffer[]> {
    const watch = new LogWatch(this.#path, signal);
    try {
      while (!signal.aborted) {
        watch.arm();
        yield* this.#read();
        if (signal.aborted) return;
        const next = await this.#look();
        if (next === "wait") await watch.wait();
        else if (next !== "again") {
          yield* this.#read(); // what came before the next file did
          await this.#begin(next);
        }
      }
    } finally {
      watch.close();
      if (this.#file !== undefined) close_log(this.#file);
    }
  }

  /** Whole lines from where it stands to the end of the file. */
  async *#read(): AsyncGenerator<readonly Buffer[]> {
    const file = this.#file;
    if (file === undefined) return;
    if (file.compressed) return yield* this.#read_compressed(file);
    for (let length = CHUNK_BYTES; ; ) {
      const bytes = read_at(file, this.#at, length);
      const end = bytes.lastIndexOf(NEWLINE) + 1;
      if (end > 0) {
        this.#at += end;
        length = CHUNK_BYTES;
        yield this.#split(bytes.subarray(0, end - 1));
      } else if (bytes.length < length) return;
      else if (length < MAX_LINE_BYTES) length *= 2;
      else {
        this.#at += bytes.length; // no record: shown piece by piece, so that what comes after it is not lost
        yield [bytes];
      }
    }
  }

  /** A compressed file does not grow. */
  async *#read_compressed(file: LogFile): AsyncGenerator<readonly Buffer[]> {
    if (this.#at > 0) return;
    this.#at = file.stats.size;
    try {
      for await (const { bytes, whole } of lines_of(file)) if (whole) yield this.#split(bytes);
    } catch (error) {
      if (!(error instanceof BrokenFile)) throw error;
    }
  }

  #split(bytes: Buffer): Buffer[] {
    const lines: Buffer[] = [];
    for (let start = 0; start <= bytes.length; ) {
      const newline = bytes.indexOf(NEWLINE, start);
      const end = newline < 0 ? bytes.length : newline;
      lines.push(bytes.subarray(start, end));
      start = end + 1;
    }
    this.#last = lines.at(-1);
    this.#seq = lines.reduce((seq, line) => seq_of(line) ?? seq, this.#seq);
    return lines;
  }

  /** What to do at the end of the file: wait, read again, or go on in another file, which is open. */
  async #look(): Promise<LogFile | "wait" | "again"> {
    const there = stats_of(this.#path);
    if (there === undefined || !there.isFile()) return "wait";
    if (this.#file !== undefined && same_file(there, this.#file.stats)) {
      if (there.size >= this.#at) return "wait";
      this.#anew = true;
      await this.#begin(this.#file); // it was emptied, or written anew
      return "again";
    }
    return there.size === 0 && this.#file !== undefined ? "wait" : this.#find_next();
  }

  /** The file that has the next record: the one at the path, or one that has been rotated away already. */
  async #find_next(): Promise<LogFile | "again"> {
    const since = this.#file === undefined ? 0 : fstatSync(this.#file.fd).mtimeMs;
    let best: { readonly file: LogFile; readonly seq: number } | undefined;
    const names = await this.#names();
    for (const [path] of names) {
      const file = this.#open_other(path);
      if (file === undefined) continue;
      const seq = (await first_seq(file)) ?? 0;
      // What is older than the last record, and does not go on from it, is of another log that was here before.
      const newer = seq === this.#seq + 1 || (seq > this.#seq && file.stats.mtimeMs >= since);
      const nearer = newer && (best === undefined || seq < best.seq);
      if (nearer && best !== undefined) close_log(best.file);
      if (nearer) best = { file, seq };
      else close_log(file);
    }
    // Files that were renamed between our looks at them can have been missed.
    const quiet = JSON.stringify(await this.#names()) === JSON.stringify(names);
    if (best !== undefined && (best.seq === this.#seq + 1 || (quiet && this.#missing === this.#seq))) return best.file;
    if (best !== undefined) close_log(best.file);
    if (!quiet || this.#missing !== this.#seq) {
      this.#missing = this.#seq;
      await delay(LOOK_AGAIN_MS);
      return "again";
    }
    // Another log has taken the place of this one, which begins anew or has no numbers.
    this.#anew = true;
    return this.#open_other(this.#path) ?? "again";
  }

  /** The log's files, and which file each is. */
  async #names(): Promise<readonly (readonly [path: string, ino: number | undefined])[]> {
    return [...(await find_rotated(this.#path)), this.#path].map((path) => [path, stats_of(path)?.ino]);
  }

  /** @returns undefined if it is the file that is read already, has gone, or is none to be read */
  #open_other(path: string): LogFile | undefined {
    const file = open_if_log(path);
    if (file === undefined || this.#file === undefined || !same_file(file.stats, this.#file.stats)) return file;
    close_log(file);
    return undefined;
  }

  /** Goes on in another file; in one that repeats this (it was copied and put back) after the last line of this. */
  async #begin(file: LogFile): Promise<void> {
    this.#at = this.#anew ? await this.#end_of_last(file) : 0;
    if (this.#anew) this.#missing = this.#seq = 0;
    this.#anew = false;
    if (this.#file !== undefined && this.#file !== file) close_log(this.#file);
    this.#file = file;
  }

  /** Where the last line that was read ends in a file; 0 if it is not there. */
  async #end_of_last(file: LogFile): Promise<number> {
    if (this.#last === undefined || file.compressed) return 0;
    let at = 0;
    try {
      for await (const { bytes, whole } of lines_of(file)) {
        at += bytes.length + 1;
        if (whole && bytes.equals(this.#last)) return at;
      }
    } catch (error) {
      if (!(error instanceof BrokenFile)) throw error;
    }
    return 0;
  }
}
