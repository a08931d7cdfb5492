/**
 * One peer's connection: lines in, replies out, in the order of their requests. What a peer can make it keep is bounded:
 * one unfinished line, one read, and `requestsInFlight` requests whose replies have not left; beyond that it is not read.
 * A reply is written out only when it is sent, so that it cannot name a descriptor that has been closed meanwhile.
 */
import { closeSync } from "node:fs";
import { uptime_ms } from "../shared/clock.js";
import { refusal } from "../shared/errors.js";
import { type Line, LineReader, TOO_LONG } from "../shared/framing.js";
import { errno_name, MAX_FDS, native } from "../shared/native.js";
import { HANG_UP, READABLE, unwatch, WRITABLE, watch } from "../shared/poll.js";
import { LINE_TIMEOUT_MS } from "../shared/protocol.js";
import type { Account } from "./account.js";
import { type Call, type Caller, error_response } from "./calls.js";
import type { Lease } from "./lease.js";
import type { Peer } from "./policy.js";

/** A message of the peer's and what is answered to it. */
export interface Exchange {
  readonly connection: Connection;
  readonly batch: boolean;
  readonly calls: readonly Call[];
  /** True as soon as it is recorded and may be answered. */
  ready: boolean;
}

export interface ConnectionEvents {
  /** A line of so many bytes has come. */
  on_line(connection: Connection, line: Line, bytes: number): void;
  on_close(connection: Connection, reason: string): void;
  /** All replies have left. */
  on_idle(): void;
  /** How many requests may be under way. */
  in_flight_limit(): number;
}

/** What one read can bring; shared, because each read is used up before the next. */
const chunk = Buffer.allocUnsafeSlow(65_536);
const fds = new Int32Array(MAX_FDS);
/** Milliseconds until a send is tried again that failed because too many descriptors are on their way (unix(7)). */
const TOO_MANY_FDS_RETRY_MS = 100;
/** On every Linux; Node has no name for it. */
const ETOOMANYREFS = 109;
/** Reads that are thrown away at the end. */
const MAX_DISCARDED_READS = 16;

const ended = ({ id }: Lease) => refusal("ENOENT", `lease ${id} ended before its socket could be passed; ask again`);

export class Connection implements Caller {
  readonly fd: number;
  readonly number: number;
  readonly peer: Peer;
  readonly account: Account;
  /** Once an exchange had to wait: the one that was taken last, after which the next one runs. */
  running: Promise<void> | undefined;
  readonly #events: ConnectionEvents;
  readonly #reader = new LineReader();
  #exchanges: Exchange[] = [];
  /** The rest of a reply whose beginning has left. */
  #rest: Buffer | undefined;
  /** Requests under way: taken, and their replies not sent. */
  #in_flight = 0;
  #mask = -1;
  #line_timer: NodeJS.Timeout | undefined;
  #later: NodeJS.Timeout | undefined;
  #resend: NodeJS.Timeout | undefined;
  /** What sending waits for: room in the peer's queue, or (too many descriptors on their way) a timer. */
  #send_waits: "no" | "for room" | "for a timer" = "no";
  /** Lines may be waiting that are not taken yet. */
  #more = false;
  /** Why nothing more is read: the connection closes as soon as the replies have left. */
  #ended: string | undefined;
  #closed = false;

  /** Nothing of it is watched before its first `read`. */
  constructor(fd: number, number: number, peer: Peer, account: Account, events: ConnectionEvents) {
    this.fd = fd;
    this.number = number;
    this.peer = peer;
    this.account = account;
    this.#events = events;
  }

  get idle(): boolean {
    return this.#exchanges.length === 0 && this.#rest === undefined;
  }

  readonly #on_ready = (mask: number): void => {
    if ((mask & WRITABLE) !== 0) this.flush();
    if (!this.read() && (mask & HANG_UP) !== 0) this.close("the peer closed it");
  };

  #reading(): boolean {
    return !this.#closed && this.#ended === undefined && !this.#more && !this.#full();
  }

  #full(): boolean {
    return this.#in_flight >= this.#events.in_flight_limit();
  }

  #update_mask(): void {
    if (this.#closed) return;
    const mask = (this.#reading() ? READABLE : 0) | (this.#send_waits === "for room" ? WRITABLE : 0);
    if (mask === this.#mask) return;
    this.#mask = mask;
    watch(this.fd, mask, this.#on_ready);
  }

  /** Reads once, if it is time to, and takes the lines that came. @returns whether it was time */
  read(): boolean {
    if (!this.#reading()) return false;
    const got = native().receive(this.fd, chunk);
    if (got > 0) {
      this.#reader.push(chunk, got);
      this.take_lines();
      this.#reader.keep();
      return true;
    }
    if (got === 0) this.#end("the peer closed it");
    else if (errno_name(got) !== "EAGAIN") this.close(`the peer is gone (${errno_name(got)})`);
    this.#update_mask();
    return true;
  }

  /** Takes lines that have come, until as many requests are under way as may be. */
  take_lines(): void {
    this.#more = false;
    let taken = false;
    while (!this.#closed && this.#ended === undefined) {
      this.#more = this.#full() || this.#pause() > 0;
      if (this.#more) break;
      const line = this.#reader.next();
      if (line === undefined) break;
      taken = true;
      this.#events.on_line(this, line, this.#reader.taken);
      if (line === TOO_LONG) this.#end("a line was too long");
    }
    if (this.#closed) return;
    if (this.#more && !this.#full()) this.#take_later(this.#pause());
    this.#watch_line(taken);
    this.#update_mask();
  }

  #take_later(ms: number): void {
    clearTimeout(this.#later);
    if (ms > 0) this.#later = setTimeout(() => this.take_lines(), ms);
    else setImmediate(() => this.take_lines());
  }

  /** A line that has begun must end in time; the clock starts at its first byte, and stands while we do not read. */
  #watch_line(fresh: boolean): void {
    const unfinished = this.#reader.waiting > 0 && !this.#more && this.#ended === undefined;
    if (this.#line_timer !== undefined && (fresh || !unfinished)) {
      clearTimeout(this.#line_timer);
      this.#line_timer = undefined;
    }
    if (unfinished)
      this.#line_timer ??= setTimeout(
        () => this.close(`a line was not finished within ${LINE_TIMEOUT_MS / 1000} s`),
        LINE_TIMEOUT_MS,
      );
  }

  /** Milliseconds for which nothing is taken, because the user has used up its rate. */
  #pause(): number {
    return this.account.pausedUntil && this.account.pausedUntil - uptime_ms();
  }

  /** Takes an exchange; its reply leaves in its turn, once it is ready. */
  add(exchange: Exchange): void {
    this.#exchanges.push(exchange);
    this.#in_flight += exchange.calls.length;
  }

  #end(reason: string): void {
    this.#ended = reason;
    if (this.idle) this.close(reason);
  }

  /** Sends what is ready, as far as the kernel takes it. */
  flush(): void {
    this.#send_waits = "no";
    while (!this.#closed && this.#send_waits === "no") {
      if (this.#rest !== undefined) this.#send(this.#rest, 0);
      else {
        const exchange = this.#exchanges[0];
        if (exchange?.ready !== true) break;
        this.#reply(exchange);
      }
    }
    if (this.#closed) return;
    if (this.idle) {
      if (this.#ended !== undefined) return this.close(this.#ended);
      this.#events.on_idle();
    }
    if (this.#more && !this.#full()) this.#take_later(this.#pause());
    this.#update_mask();
  }

  #reply(exchange: Exchange): void {
    let count = 0;
    const responses: unknown[] = [];
    for (const call of exchange.calls) {
      if (call.lease !== undefined && call.response?.error === undefined) {
        if (call.lease.fd >= 0) fds[count++] = call.lease.fd;
        else call.response = error_response(call.record.id ?? null, ended(call.lease));
      }
      if (call.response !== undefined) responses.push(call.response);
    }
    if (responses.length === 0) this.#finish(exchange);
    else this.#send(Buffer.from(`${JSON.stringify(exchange.batch ? responses : responses[0])}\n`), count, exchange);
  }

  #send(bytes: Buffer, fd_count: number, exchange?: Exchange): void {
    const sent = native().send(this.fd, bytes, fds, fd_count);
    if (sent < 0) {
      const name = errno_name(sent);
      if (name === "EAGAIN") this.#send_waits = "for room";
      else if (sent === -ETOOMANYREFS) {
        this.#send_waits = "for a timer";
        this.#resend ??= setTimeout(() => {
          this.#resend = undefined;
          this.flush();
        }, TOO_MANY_FDS_RETRY_MS);
      } else this.close(`the peer is gone (${name})`);
      return;
    }
    this.#rest = sent < bytes.length ? bytes.subarray(sent) : undefined;
    if (exchange !== undefined) this.#finish(exchange);
  }

  #finish(exchange: Exchange): void {
    this.#exchanges.shift();
    this.#in_flight -= exchange.calls.length;
  }

  close(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#line_timer);
    clearTimeout(this.#later);
    clearTimeout(this.#resend);
    unwatch(this.fd);
    // What is left unread would reach the peer as ECONNRESET in place of the last reply.
    for (let i = 0; i < MAX_DISCARDED_READS && native().receive(this.fd, chunk) > 0; i++);
    closeSync(this.fd);
    this.#events.on_close(this, reason);
  }
}
