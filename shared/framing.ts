/**
 * Lines out of a byte stream (newline-delimited JSON, UTF-8). Holds at most one line and one chunk, so a peer can make it keep
 * MAX_LINE_BYTES plus what one read brings and no more.
 */
import { isUtf8 } from "node:buffer";
import { MAX_LINE_BYTES } from "./protocol.js";

const NEWLINE = 10;
const NOTHING = Buffer.alloc(0);
/** What stands in a decoded text where its bytes were no UTF-8, or where it stood before. */
const REPLACEMENT = "\ufffd";

/** In place of a line: it has more bytes than it may, or they are no UTF-8. */
export const TOO_LONG = Symbol("too long");
export const NOT_UTF8 = Symbol("not UTF-8");
export type Line = string | typeof TOO_LONG | typeof NOT_UTF8;

export class LineReader {
  /** Bytes of the line that `next` gave last; of one that is too long as many as a line may have. */
  taken = 0;
  /** What waits is #store from #start to #end; up to #searched it is known to have no newline. */
  #store: Buffer = NOTHING;
  #start = 0;
  #end = 0;
  #searched = 0;
  #borrowed = false;
  readonly #max: number;

  /** @param max bytes in a line, without its newline */
  constructor(max: number = MAX_LINE_BYTES) {
    this.#max = max;
  }

  /** Bytes that wait: of a line not ended yet, or of lines not taken yet. */
  get waiting(): number {
    return this.#end - this.#start;
  }

  /** Takes what one read brought: the first bytes of `chunk`. The memory stays the caller's: call `keep` before it is used again. */
  push(chunk: Buffer, length: number): void {
    const { waiting } = this;
    if (waiting === 0) {
      this.#hold(chunk, length, 0, true);
      return;
    }
    if (this.#borrowed || this.#end + length > this.#store.length) {
      // Twice as much as is needed, so that a long line in small pieces is not copied again for each of them.
      const grown = Buffer.allocUnsafeSlow(2 * (waiting + length));
      this.#store.copy(grown, 0, this.#start, this.#end);
      this.#hold(grown, waiting, this.#searched - this.#start, false);
    }
    this.#end += chunk.copy(this.#store, this.#end, 0, length);
  }

  #hold(store: Buffer, end: number, searched: number, borrowed: boolean): void {
    this.#store = store;
    this.#start = 0;
    this.#end = end;
    this.#searched = searched;
    this.#borrowed = borrowed;
  }

  /** The next line without its newline; undefined if there is none yet. */
  next(): Line | undefined {
    const newline = this.#find_newline();
    const end = newline < 0 ? this.#end : newline;
    const start = this.#start;
    this.taken = Math.min(end - start, this.#max);
    if (end - start > this.#max) return TOO_LONG;
    this.#searched = end;
    if (newline < 0) return undefined;
    this.#start = this.#searched = end + 1;
    const line = this.#store.toString("utf8", start, end);
    return line.includes(REPLACEMENT) && !isUtf8(this.#store.subarray(start, end)) ? NOT_UTF8 : line;
  }

  #find_newline(): number {
    if (this.#searched === this.#end) return -1;
    // What waits mostly ends with one, and then nothing beyond it is searched.
    const whole = this.#store[this.#end - 1] === NEWLINE;
    // Not Buffer's own indexOf, which is made for all that one may look for and takes longer.
    return Uint8Array.prototype.indexOf.call(whole ? this.#store : this.#store.subarray(0, this.#end), NEWLINE, this.#searched);
  }

  /** Copies what waits out of the caller's memory, and lets go of memory that is not needed. */
  keep(): void {
    if (this.waiting === 0) {
      if (!this.#borrowed) this.#hold(NOTHING, 0, 0, true);
    } else if (this.#borrowed) {
      const rest = Buffer.from(this.#store.subarray(this.#start, this.#end));
      this.#hold(rest, rest.length, this.#searched - this.#start, false);
    }
  }
}
