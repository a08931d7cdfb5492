/** The last lines of the log that are wanted, back over the files that rotation has made. */
import { readSync } from "node:fs";
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
} from "./log-file.js";

const BLOCK_BYTES = 1 << 16;
const NEWLINE = 10;

/** Bytes of a file that is not compressed, from `at` on. */
export function read_at({ fd }: LogFile, at: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let got = 0;
  for (let more = -1; more !== 0 && got < length; got += more) more = readSync(fd, bytes, got, length - got, at + got);
  return bytes.subarray(0, got);
}

/** The lines before `end`, which is the end of one, the last first. */
export function* lines_backward(file: LogFile, end: number): Generator<Buffer> {
  let rest: Buffer = Buffer.alloc(0);
  for (let from = end; from > 0; ) {
    const length = Math.min(BLOCK_BYTES, from);
    from -= length;
    let bytes = Buffer.concat([read_at(file, from, length), rest]);
    if (from + length === end) bytes = bytes.subarray(0, -1); // the newline that ends the last
    for (let start = bytes.lastIndexOf(NEWLINE); start >= 0; start = bytes.lastIndexOf(NEWLINE)) {
      yield bytes.subarray(start + 1);
      bytes = bytes.subarray(0, start);
    }
    if (bytes.length > MAX_LINE_BYTES) throw new BrokenFile("a line is longer than any record", { endless: true });
    if (from === 0) yield bytes;
    rest = bytes;
  }
}

/** Where the last whole line of a file ends. */
export function end_of_lines(file: LogFile, size: number): number {
  for (let from = size; from > 0 && size - from <= MAX_LINE_BYTES; ) {
    const length = Math.min(BLOCK_BYTES, from);
    from -= length;
    const newline = read_at(file, from, length).lastIndexOf(NEWLINE);
    if (newline >= 0) return from + newline + 1;
  }
  return 0;
}

/** The last lines of a file that are wanted, in order. */
async function last_of(file: LogFile, end: number, most: number, wanted: (line: Buffer) => boolean): Promise<Buffer[]> {
  const found: Buffer[] = [];
  try {
    if (file.compressed) {
      for await (const { bytes, whole } of lines_of(file)) {
        if (!whole || !wanted(bytes)) continue;
        found.push(Buffer.from(bytes));
        if (found.length > 2 * most) found.splice(0, found.length - most);
      }
      return found.slice(-most);
    }
    for (const line of lines_backward(file, end)) {
      if (wanted(line)) found.push(Buffer.from(line));
      if (found.length === most) break;
    }
  } catch (error) {
    if (!(error instanceof BrokenFile)) throw error; // what could be read of it counts
  }
  return file.compressed ? found.slice(-most) : found.toReversed();
}

/**
 * The last lines that are wanted, oldest first.
 * @param file the newest file, up to `end`
 * @param path the log's name, for the files before it
 */
export async function last_lines(
  path: string,
  file: LogFile,
  end: number,
  most: number,
  wanted: (line: Buffer) => boolean,
): Promise<Buffer[]> {
  if (most === 0) return [];
  let found = await last_of(file, end, most, wanted);
  const newest = await first_seq(file);
  for (const name of (await find_rotated(path)).toReversed()) {
    if (found.length === most) break;
    const older = open_if_log(name);
    if (older === undefined) continue;
    try {
      if (same_file(older.stats, file.stats)) continue;
      const begins = await first_seq(older);
      // It was rotated away while we looked, and comes after.
      if (newest !== undefined && begins !== undefined && begins > newest) continue;
      found = [...(await last_of(older, end_of_lines(older, older.stats.size), most - found.length, wanted)), ...found];
    } finally {
      close_log(older);
    }
  }
  return found;
}
