/**
 * A connection to the helper as a stream of JSON messages, each with the descriptors that came with it. Node cannot receive
 * descriptors, so this reads the socket itself (shared/native). It keeps the process alive only while a reply is awaited.
 */
import { closeSync } from "node:fs";
import { type Line, LineReader } from "../shared/framing.js";
import { errno_name, MAX_FDS, native } from "../shared/native.js";
import { keep_alive, READABLE, unwatch, WRITABLE, watch } from "../shared/poll.js";
import { LowportError } from "./errors.js";
import { own_addon } from "./own-addon.js";

/** Bytes in a reply; an operator's `list` of 100,000 leases fits. */
const MAX_REPLY_BYTES = 64 * 1024 * 1024;
const CHUNK_BYTES = 65_536;
const NO_FDS = new Int32Array(0);

export interface ChannelEvents {
  /** A message, and a function that takes the next `count` descriptors that came. */
  on_message(message: unknown, take_fds: (count: number) => number[]): void;
  on_close(error: LowportError): void;
}

/** Where there is no addon there is no helper either. */
export function require_addon(): void {
  try {
    native();
  } catch (error) {
    throw new LowportError("ENOSYS", "connect", (error as Error).message, { cause: error });
  }
}

let awaited = 0;

/** Counts what the process must stay alive for; call with 1 before and -1 after. */
export function await_replies(change: 1 | -1): void {
  awaited += change;
  if (awaited === 0 || (awaited === 1 && change === 1)) keep_alive(awaited > 0);
}

export class Channel {
  readonly #fd: number;
  readonly #events: ChannelEvents;
  readonly #reader = new LineReader(MAX_REPLY_BYTES);
  readonly #chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  readonly #received = new Int32Array(MAX_FDS + 1);
  /** Descriptors that have come and are not taken by a message yet. */
  readonly #fds: number[] = [];
  #unsent: Buffer = Buffer.alloc(0);
  /** What is watched for. */
  #mask = READABLE;
  #closed = false;

  /** @param fd a connected Unix stream socket; the channel closes it */
  constructor(fd: number, events: ChannelEvents) {
    this.#fd = fd;
    this.#events = events;
    watch(fd, READABLE, this.#on_ready);
    if (awaited === 0) keep_alive(false);
  }

  readonly #on_ready = (mask: number): void => {
    if ((mask & WRITABLE) !== 0) this.#flush();
    if ((mask & ~WRITABLE) !== 0) this.#read();
  };

  /** For a caller that blocks the event loop: sends and reads what can be within so many milliseconds. */
  turn(ms: number): void {
    const mask = READABLE | (this.#unsent.length > 0 ? WRITABLE : 0);
    if (own_addon().waitReady(this.#fd, mask, Math.ceil(ms)) > 0) this.#on_ready(mask);
  }

  /** Sends a message; nothing is lost if the kernel does not take it all at once. */
  send(message: object): void {
    const line = Buffer.from(`${JSON.stringify(message)}\n`);
    this.#unsent = this.#unsent.length === 0 ? line : Buffer.concat([this.#unsent, line]);
    this.#flush();
  }

  #flush(): void {
    while (!this.#closed && this.#unsent.length > 0) {
      const sent = native().send(this.#fd, this.#unsent, NO_FDS, 0);
      if (sent >= 0) this.#unsent = this.#unsent.subarray(sent);
      else if (errno_name(sent) === "EAGAIN") break;
      // What the helper said before it closed may still be there to read: the reader finds the end itself.
      else this.#unsent = Buffer.alloc(0);
    }
    const mask = READABLE | (this.#unsent.length > 0 ? WRITABLE : 0);
    if (this.#closed || mask === this.#mask) return;
    this.#mask = mask;
    watch(this.#fd, mask, this.#on_ready);
  }

  #read(): void {
    if (this.#closed) return;
    const got = own_addon().receiveWithFds(this.#fd, this.#chunk, this.#received);
    if (got < 0) {
      const code = errno_name(got);
      if (code === "EMFILE")
        this.close(
          new LowportError(
            code,
            "recvmsg",
            "this program has no descriptors left for the sockets it was granted; raise its RLIMIT_NOFILE",
          ),
        );
      else if (code !== "EAGAIN") this.close(new LowportError(code, "read", "the connection to the lowport helper broke"));
      return;
    }
    if (got === 0) {
      this.close(new LowportError("ECONNRESET", "read", "the lowport helper closed the connection"));
      return;
    }
    this.#fds.push(...this.#received.subarray(1, 1 + (this.#received[0] as number)));
    this.#reader.push(this.#chunk, got);
    const lines: Line[] = [];
    let next: Line | undefined;
    do {
      next = this.#reader.next();
      if (next !== undefined) lines.push(next);
    } while (typeof next === "string"); // what comes after one that is none is not read
    this.#reader.keep();
    if (lines.every((line) => this.#closed || this.#take(line))) return;
    this.close(
      new LowportError("EPROTO", "read", "what answers on the socket of the lowport helper does not speak its protocol"),
    );
  }

  #take(line: Line): boolean {
    let message: unknown;
    if (typeof line !== "string") return false;
    try {
      message = JSON.parse(line);
    } catch {
      return false;
    }
    let enough = true;
    this.#events.on_message(message, (count) => {
      enough = count <= this.#fds.length;
      return enough ? this.#fds.splice(0, count) : [];
    });
    return enough;
  }

  close(error: LowportError): void {
    if (this.#closed) return;
    this.#closed = true;
    unwatch(this.#fd);
    for (const fd of [this.#fd, ...this.#fds.splice(0)]) closeSync(fd);
    this.#events.on_close(error);
  }
}
