/**
 * Verifies an audit log: each line against its own hash, and against the line before. Reads one line at a time, so a log
 * of any size can be verified, compressed files too. A file that is full of what is no record is not read to its end, so that
 * nobody can make it take for ever.
 */

import { FIRST_PREV, type Head, unseal } from "../shared/chain.js";
import { BrokenFile, close_log, lines_of, open_log } from "./audit/log-file.js";

/** What is wrong with a line. */
export interface Damage {
  readonly file: string;
  /** From 1; 0 if it is the file as a whole. */
  readonly line: number;
  /**
   * edited: the line does not fit its hash. removed: lines are missing before it. inserted: it repeats a number.
   * reordered: it stands later than its number. truncated: it has no end, or the log ends before the head it should reach.
   * A compressed file that cannot be decompressed is one damage, edited, at line 0; what is no regular file is one, inserted.
   */
  readonly kind: "edited" | "removed" | "inserted" | "reordered" | "truncated";
  readonly reason: string;
}

export interface Verdict {
  /** What was read. */
  readonly files: readonly string[];
  readonly lines: number;
  /** Number of the first record; above 1 if the files before it are not here. */
  readonly first: number | undefined;
  /** Where the chain stands. */
  readonly head: Head | undefined;
  readonly damage: readonly Damage[];
}

/** Damages of a file after which it is not read on. */
const MAX_DAMAGE = 1000;

/** What is wrong with a sound line's place, if anything. */
function misplaced(seq: number, prev: string, before: Head): [Damage["kind"], string] | undefined {
  if (prev === before.hash && seq === before.seq + 1) return undefined;
  if (seq > before.seq + 1) return ["removed", `records ${before.seq + 1} to ${seq - 1} are missing before it`];
  if (seq === before.seq + 1)
    return ["edited", `the record before it, ${before.seq}, is another than it was when this one was written`];
  if (seq === before.seq) return ["inserted", `there are two records ${seq}`];
  return ["reordered", `record ${seq} stands after record ${before.seq}`];
}

/** Where the chain stands while it is followed. */
class Chain {
  readonly damage: Damage[] = [];
  count = 0;
  first: number | undefined;
  head: Head | undefined;
  place: { readonly file: string; readonly line: number };

  constructor(file: string) {
    this.place = { file, line: 0 };
  }

  note(kind: Damage["kind"], reason: string): void {
    this.damage.push({ ...this.place, kind, reason });
  }

  add_line(bytes: Buffer, whole: boolean): void {
    this.count++;
    this.place = { file: this.place.file, line: this.place.line + 1 };
    const record = whole ? unseal(bytes) : undefined;
    if (record === undefined) {
      if (whole) this.note("edited", "the line does not fit its own hash");
      else this.note("truncated", "the line has no end");
      // What follows is judged against the number that this line should have.
      if (this.head !== undefined)
        this.head = {
          seq: this.head.seq + 1,
          hash: /"hash":"([0-9a-f]{64})"\}$/.exec(bytes.toString("latin1"))?.[1] ?? "",
        };
      return;
    }
    this.first ??= record.seq;
    const before = this.head ?? { seq: record.seq - 1, hash: record.seq === 1 ? FIRST_PREV : record.prev };
    const wrong = misplaced(record.seq, record.prev, before);
    // An edited line's own hash is unknown: that the next does not fit it is the same damage, told already.
    if (wrong !== undefined && !(before.hash === "" && record.seq === before.seq + 1)) this.note(...wrong);
    this.head = { seq: record.seq, hash: record.hash };
  }

  /** The rest of the file is not read, so what comes next cannot be judged by it. */
  give_up(reason: string): void {
    this.note("edited", `${reason}; the rest of the file is not read`);
    this.head = undefined;
  }

  async add_file(path: string): Promise<void> {
    this.place = { file: path, line: 0 };
    const { count, first, head } = this;
    const told = this.damage.length;
    let file: ReturnType<typeof open_log> | undefined;
    try {
      file = open_log(path);
      for await (const { bytes, whole } of lines_of(file)) {
        this.add_line(bytes, whole);
        if (this.damage.length - told >= MAX_DAMAGE) return this.give_up("so much is wrong here");
      }
    } catch (error) {
      if (!(error instanceof BrokenFile)) throw error;
      if (error.endless) return this.give_up(error.message);
      // Of a compressed file that is not whole nothing is believed.
      Object.assign(this, { count, first, head, place: { file: path, line: 0 } });
      this.damage.length = told;
      this.note(file === undefined ? "inserted" : "edited", error.message);
    } finally {
      if (file !== undefined) close_log(file);
    }
  }
}

/**
 * Verifies files that follow one another, oldest first.
 * @param reach the number that the chain must reach at least, as syslog or the helper's `status` says it
 * @throws what the file system says
 */
export async function verify_audit(files: readonly string[], reach = 0): Promise<Verdict> {
  const chain = new Chain(files[0] ?? "");
  for (const file of files) await chain.add_file(file);
  const end = chain.head?.seq ?? 0;
  if (end < reach) chain.note("truncated", `the log ends at record ${end}, but it had reached ${reach}`);
  const { count, first, head, damage } = chain;
  return { files, lines: count, first, head, damage };
}
