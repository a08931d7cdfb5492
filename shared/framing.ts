/**
 * Lines out of a byte stream (newline-delimited JSON). Holds at most one line and one chunk, so a peer can make it keep
 * MAX_LINE_BYTES plus what one read brings and no more.
 */
import { MAX_LINE_BYTES } from "./protocol.js";

const NEWLINE = 10;
const NOTHING = Buffer.alloc(0);

export class LineReader {
  #bytes: Buffer = NOTHING;
  /** How far #bytes is known to have no newline. */
  #searched = 0;
  #borrowed = false;
  readonly #max: number;

  /** @param max bytes in a line, without its newline */
  constructor(max: number = MAX_LINE_BYTES) {
    this.#max = max;
  }

  /** Bytes that wait: of a line not ended yet, or of lines not taken yet. */
  get waiting(): number {
    return this.#bytes.length;
  }

  /** Takes what one read brought. The memory stays the caller's: call `keep` before it is used again. */
  push(chunk: Buffer): void {
    this.#borrowed = this.#bytes.length === 0;
    this.#bytes = this.#borrowed ? chunk : Buffer.concat([this.#bytes, chunk]);
  }

  /** The next whole line without its newline, valid until `keep`; undefined if there is none yet; "too long". */
  next(): Buffer | "too long" | undefined {
    const end = this.#bytes.indexOf(NEWLINE, this.#searched);
    if (end > this.#max || (end < 0 && this.#bytes.length > this.#max)) return "too long";
    if (end < 0) {
      this.#searched = this.#bytes.length;
      return undefined;
    }
    const line = this.#bytes.subarray(0, end);
    this.#bytes = this.#bytes.subarray(end + 1);
    this.#searched = 0;
    return line;
  }

  /** Copies what waits out of the caller's memory. */
  keep(): void {
    if (this.#bytes.length === 0) this.#bytes = NOTHING;
    else if (this.#borrowed) this.#bytes = Buffer.from(this.#bytes);
    this.#borrowed = false;
  }
}
