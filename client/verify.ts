/**
 * Verifies an audit log: each line against its own hash, and against the line before. Reads one line at a time, so a log
 * of any size can be verified; one that rotation has compressed with gzip is decompressed as a whole.
 */
import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { FIRST_PREV, type Head, unseal } from "../shared/chain.js";
import { errno_of, message_of } from "../shared/errors.js";

/** What is wrong with a line. */
export interface Damage {
  readonly file: string;
  /** From 1. */
  readonly line: number;
  /**
   * edited: the line does not fit its hash. removed: lines are missing before it. inserted: it repeats a number.
   * reordered: it stands later than its number. truncated: it has no end, or the log ends before the head it should reach.
   * A compressed file that cannot be decompressed is one damage, edited, at line 0.
   */
  readonly kind: "edited" | "removed" | "inserted" | "reordered" | "truncated";
  readonly reason: string;
}

export interface Verdict {
  readonly lines: number;
  /** Number of the first record; above 1 if the files before it are not here. */
  readonly first: number | undefined;
  /** Where the chain stands. */
  readonly head: Head | undefined;
  readonly damage: readonly Damage[];
}

const CHUNK_BYTES = 1 << 20;
const NEWLINE = 10;

/** What a file of gzip begins with (RFC 1952), and no JSON does. */
const GZIP = Buffer.from([0x1f, 0x8b]);
/** Bytes that are decompressed at once, at most. */
const MAX_DECOMPRESSED = 2 ** 28;

/** A compressed file that is not whole any more. */
class BrokenFile extends Error {}

function decompress(compressed: Buffer): Buffer {
  try {
    return gunzipSync(compressed, { maxOutputLength: MAX_DECOMPRESSED });
  } catch (error) {
    if (errno_of(error) === "ERR_BUFFER_TOO_LARGE")
      throw Object.assign(
        new Error("a compressed file is too large; decompress it: zcat FILE | lowport audit verify /dev/stdin"),
        {
          code: "EFBIG",
        },
      );
    throw new BrokenFile(`the file cannot be decompressed: ${message_of(error)}`, { cause: error });
  }
}

/** What is in a file, in pieces that are overwritten by the next. */
function* pieces_of(fd: number): Generator<Buffer> {
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  let got = readSync(fd, chunk);
  if (chunk.subarray(0, Math.min(got, GZIP.length)).equals(GZIP)) {
    yield decompress(Buffer.concat([chunk.subarray(0, got), readFileSync(fd)]));
    return;
  }
  for (; got > 0; got = readSync(fd, chunk)) yield chunk.subarray(0, got);
}

/** The lines of a file without their newlines; `whole` is false for a last line that has none. */
function* lines_of(file: string): Generator<{ bytes: Buffer; whole: boolean }> {
  const fd = openSync(file, "r");
  try {
    let rest: Buffer = Buffer.alloc(0);
    for (const piece of pieces_of(fd)) {
      let bytes = rest.length > 0 ? Buffer.concat([rest, piece]) : piece;
      for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE)) {
        yield { bytes: bytes.subarray(0, end), whole: true };
        bytes = bytes.subarray(end + 1);
      }
      rest = Buffer.from(bytes);
    }
    if (rest.length > 0) yield { bytes: rest, whole: false };
  } finally {
    closeSync(fd);
  }
}

/** What is wrong with a sound line's place, if anything. */
function misplaced(seq: number, prev: string, before: Head): [Damage["kind"], string] | undefined {
  if (prev === before.hash && seq === before.seq + 1) return undefined;
  if (seq > before.seq + 1) return ["removed", `records ${before.seq + 1} to ${seq - 1} are missing before it`];
  if (seq === before.seq + 1)
    return ["edited", `the record before it, ${before.seq}, is another than it was when this one was written`];
  if (seq === before.seq) return ["inserted", `there are two records ${seq}`];
  return ["reordered", `record ${seq} stands after record ${before.seq}`];
}

/**
 * Verifies files that follow one another, oldest first.
 * @param reach the number that the chain must reach at least, as syslog or the helper's `status` says it
 * @throws what the file system says
 */
export function verify_audit(files: readonly string[], reach = 0): Verdict {
  const damage: Damage[] = [];
  let count = 0;
  let first: number | undefined;
  let head: Head | undefined;
  let place = { file: files[0] ?? "", line: 0 };
  const verify_file = (file: string) => {
    let line = 0;
    for (const { bytes, whole } of lines_of(file)) {
      count++;
      place = { file, line: ++line };
      const note = (kind: Damage["kind"], reason: string) => damage.push({ ...place, kind, reason });
      const record = whole ? unseal(bytes) : undefined;
      if (record === undefined) {
        if (whole) note("edited", "the line does not fit its own hash");
        else note("truncated", "the line has no end");
        // What follows is judged against the number that this line should have.
        if (head !== undefined)
          head = { seq: head.seq + 1, hash: /"hash":"([0-9a-f]{64})"\}$/.exec(bytes.toString("latin1"))?.[1] ?? "" };
        continue;
      }
      first ??= record.seq;
      const before = head ?? { seq: record.seq - 1, hash: record.seq === 1 ? FIRST_PREV : record.prev };
      const wrong = misplaced(record.seq, record.prev, before);
      // An edited line's own hash is unknown: that the next does not fit it is the same damage, told already.
      if (wrong !== undefined && !(before.hash === "" && record.seq === before.seq + 1)) note(...wrong);
      head = { seq: record.seq, hash: record.hash };
    }
  };
  for (const file of files) {
    try {
      verify_file(file);
    } catch (error) {
      if (!(error instanceof BrokenFile)) throw error;
      damage.push({ file, line: 0, kind: "edited", reason: error.message });
    }
  }
  if ((head?.seq ?? 0) < reach) {
    damage.push({
      ...place,
      kind: "truncated",
      reason: `the log ends at record ${head?.seq ?? 0}, but it had reached ${reach}`,
    });
  }
  return { lines: count, first, head, damage };
}
