/**
 * Lines out of a byte stream (newline-delimited JSON). Holds at most one line and one chunk, so a peer can make it keep
 * MAX_LINE_BYTES plus what one read brings and no more.
 */
import { MAX_LINE_BYTES } from "./protocol.js";

const NEWLINE = 10;
const NOTHING = Buffer.alloc(0);

export class LineReader {
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

  /** Takes what one read brought. The memory stays the caller's: call `keep` before it is used again. */
  push(chunk: Buffer): void {
    const { waiting } = this;
    if (waiting === 0) {
      this.#hold(chunk, chunk.length);
      this.#borrowed = true;
      return;
    }
    const wanted = waiting + chunk.length;
    if (this.#borrowed || this.#end + chunk.length > this.#store.length) {
      // Twice as much as is needed, so that a long line in small pieces is not copied again for each of them.
      const grown = Buffer.allocUnsafeSlow(2 * wanted);
      this.#store.copy(grown, 0, this.#start, this.#end);
      this.#hold(grown, waiting, this.#searched - this.#start);
    }
    this.#end += chunk.copy(this.#store, this.#end);
  }

  #hold(store: Buffer, end: number, searched = 0): void {
    this.#store = store;
    this.#start = 0;
    this.#end = end;
    this.#searched = searched;
    this.#borrowed = false;
  }

  /** The next whole line without its newline, valid until `push` or `keep`; undefined if there is none yet; "too long". */
  next(): Buffer | "too long" | undefined {
    const newline = this.#searched < this.#end ? this.#store.subarray(0, this.#end).indexOf(NEWLINE, this.#searched) : -1;
    const end = newline < 0 ? this.#end : newline;
    if (end - this.#start > this.#max) return "too long";
    this.#searched = end;
    if (newline < 0) return undefined;
    const line = this.#store.subarray(this.#start, end);
    this.#start = this.#searched = end + 1;
    return line;
  }

  /** Copies what waits out of the caller's memory, and lets go of memory that is not needed. */
  keep(): void {
    if (this.waiting === 0) this.#hold(NOTHING, 0);
    else if (this.#borrowed) {
      const rest = Buffer.from(this.#store.subarray(this.#start, this.#end));
      this.#hold(rest, rest.length, this.#searched - this.#start);
    }
  }
}
