/**
 * Answers each bind(2) of a program and of all its processes: most are left to the kernel; what the kernel would refuse is
 * asked of the helper, whose socket takes the place of the program's own. Many can wait at once; none waits for another.
 */
import { closeSync, fstatSync } from "node:fs";
import { constants } from "node:os";
import process from "node:process";
import { errno_name } from "../../shared/native.js";
import { HANG_UP, READABLE, watch } from "../../shared/poll.js";
import { await_replies } from "../channel.js";
import { LowportError } from "../errors.js";
import type { BoundSocket } from "../types.js";
import { CHANNEL_FD, type Order } from "./messages.js";
import { exec_native } from "./native.js";
import { type Asked, empty_notice, judge, remember_network, require_same_network, thread_of } from "./notice.js";
import { find_parent_with, has_socket, read_status, type Status } from "./processes.js";
import { label_of, ProgramLeases, type Wanted } from "./program-leases.js";
import { put_in_place } from "./replace.js";
import { Complaints } from "./stderr.js";

const { EACCES, EADDRINUSE, EADDRNOTAVAIL, EBADF } = constants.errno;
/** What a program may see of a refusal; all else is EACCES, which is what the kernel would have said. */
const SEEN: Readonly<Record<string, number>> = { EADDRINUSE, EADDRNOTAVAIL };
/** Milliseconds that a bind waits for a helper that hangs: until then no signal is handled (WAIT_KILLABLE_RECV, ../native/launch.c). */
const PATIENCE_MS = 3_000;
const GO_ON = -1;
const GRANTED = 0;

class Answers {
  readonly #listener: number;
  readonly #leases: ProgramLeases;
  readonly #complaints: Complaints;

  constructor(listener: number, leases: ProgramLeases, complaints: Complaints) {
    this.#listener = listener;
    this.#leases = leases;
    this.#complaints = complaints;
  }

  start(): void {
    watch(this.#listener, READABLE, (mask) => {
      if ((mask & READABLE) !== 0) this.#take();
      else if ((mask & HANG_UP) !== 0) {
        // The last process has ended.
        this.#leases.close();
        process.exit(0);
      }
    });
  }

  #take(): void {
    const notice = empty_notice();
    // One a turn: a second call could wait. ENOENT: who called has died since.
    if (exec_native().receiveNotice(this.#listener, notice) < 0) return;
    this.#serve(notice).catch((error: unknown) => {
      this.#say(notice, "fault", `a fault in lowport: ${(error as Error).stack ?? String(error)}`);
      this.#answer(notice, GO_ON);
    });
  }

  #answer(notice: Uint8Array, error: number): void {
    exec_native().answerNotice(this.#listener, notice, error); // fails if nobody waits any more
  }

  #say(notice: Uint8Array, about: string, text: string): void {
    const thread = thread_of(notice);
    this.#complaints.say(about, text, thread, read_status(thread)?.process ?? thread);
  }

  async #serve(notice: Uint8Array): Promise<void> {
    const asked = judge(this.#listener, notice);
    if (asked === "gone") return;
    if (asked === "blind") this.#say(notice, "blind", explain_blindness(thread_of(notice)));
    if (typeof asked !== "string" && "because" in asked)
      this.#say(
        notice,
        asked.because,
        `${describe(thread_of(notice))} may not bind this port, and no helper can be asked: it is ${asked.because}`,
      );
    if (typeof asked === "string" || "because" in asked) return this.#answer(notice, GO_ON);
    try {
      this.#answer(notice, await this.#grant(asked));
    } finally {
      closeSync(asked.own);
    }
  }

  /** Without us a bind would be one in all processes that have the socket. */
  #tell_of_copies(asked: Asked): void {
    const parent = find_parent_with(asked, asked.inode);
    if (parent !== undefined) this.#say(asked.notice, "copy", explain_copy(asked, parent));
  }

  /** @returns the errno for the program */
  async #grant(asked: Asked): Promise<number> {
    const { protocol, address, port, ipv6Only, reusePort, notice } = asked;
    const wanted: Wanted = { protocol, address, port, ipv6Only, reusePort, label: label_of(asked.name) };
    try {
      const socket = await this.#leases.obtain(wanted, PATIENCE_MS);
      try {
        this.#hand_over(socket, asked, wanted);
      } finally {
        closeSync(socket.fd);
      }
      return GRANTED;
    } catch (error) {
      if (!(error instanceof LowportError)) throw error;
      const where = `bind ${protocol} ${address.includes(":") ? `[${address}]` : address}:${port}`;
      this.#say(notice, `${where} ${error.code}`, `${where}: ${error.code}: ${error.reason}`);
      return SEEN[error.code] ?? EACCES;
    }
  }

  /** @throws LowportError if the program cannot have it */
  #hand_over(socket: BoundSocket, asked: Asked, wanted: Wanted): void {
    require_same_network(socket, asked.own);
    const valid = exec_native().noticeIsValid(this.#listener, asked.notice) === 0;
    const placed = valid ? put_in_place(this.#listener, asked, socket.fd) : 0;
    if (valid && placed === 0) {
      const { ino } = fstatSync(socket.fd);
      const place = { process: asked.process, number: asked.number };
      // A thread may have descriptors of its own.
      this.#leases.keep(socket, wanted, ino, has_socket(place, ino) ? place : { ...place, process: asked.thread });
      this.#tell_of_copies(asked);
    } else void socket.release();
    if (placed === -EBADF)
      throw new LowportError("EACCES", "bind", "the program has closed the socket meanwhile, or put something else in its place");
    if (placed < 0) throw new LowportError("EACCES", "bind", `the socket cannot be put in place: ${errno_name(placed)}`);
  }
}

function explain_copy({ process: id, name, protocol, port }: Asked, parent: Status): string {
  return (
    `process ${id} (${name}) has bound ${protocol} port ${port} to a socket from before a fork. The copy of it in process ` +
    `${parent.process} (${parent.name}) is not bound: let the one that makes a socket bind it, or make it after the fork`
  );
}

function describe(thread: number): string {
  const { process: id = thread, name = "?" } = read_status(thread) ?? {};
  return `process ${id} (${name})`;
}

function explain_blindness(thread: number): string {
  return (
    `${describe(thread)} may not be looked into, so the kernel alone decides what it may bind: it is not dumpable, or a ` +
    "container's filter forbids it, or Yama does (kernel.yama.ptrace_scope 1: only the program itself is served, not its children; above: nothing)"
  );
}

/** Answers from now on, until the last process has ended. @param listener of the program's filter */
export function answer_binds(listener: number, { pid, hold, socket, stderr }: Order): void {
  remember_network(CHANNEL_FD);
  closeSync(CHANNEL_FD);
  await_replies(1); // stays alive though no reply is awaited
  new Answers(listener, new ProgramLeases(socket, hold), new Complaints(pid, stderr)).start();
}
