/**
 * The process beside a program that `lowport exec` has started: it answers each bind(2) of the program and of all its
 * processes, and has the connection to the helper, which is the lifeline of what they were granted. It has the user's rights
 * and no others, nothing of the program's (no stdio, no folder, no pipe), and ends when the last of these processes has ended.
 * It must outlive them: with nobody to answer, the kernel says ENOSYS to a bind. So it ignores the signals that end a
 * program politely, and no notice can end it.
 */
import { closeSync, fstatSync } from "node:fs";
import { constants } from "node:os";
import process from "node:process";
import { errno_name, native } from "../../shared/native.js";
import { HANG_UP, READABLE, unwatch, watch } from "../../shared/poll.js";
import { await_replies } from "../channel.js";
import type { LowportError } from "../errors.js";
import type { BoundSocket } from "../types.js";
import { CHANNEL_FD, type Order, type Report, read_message, type ToListen } from "./messages.js";
import { exec_native } from "./native.js";
import { type Asked, empty_notice, judge, remember_network, thread_of } from "./notice.js";
import { read_status } from "./processes.js";
import { ProgramLeases, type Wanted } from "./program-leases.js";
import { put_in_place } from "./replace.js";
import { Complaints } from "./stderr.js";

const { EACCES, EADDRINUSE, EADDRNOTAVAIL } = constants.errno;
/** What a program may see of a refusal; all else is EACCES, which is what the kernel would have said. */
const SEEN: Readonly<Record<string, number>> = { EADDRINUSE, EADDRNOTAVAIL };
const GO_ON = -1;
/** Characters that a label may have (shared/PROTOCOL.md). */
const label_of = (name: string) => name.replaceAll(/[^A-Za-z0-9._-]/g, "_").slice(0, 64);

class Supervisor {
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
      else if ((mask & HANG_UP) !== 0) end(this.#leases);
    });
  }

  #take(): void {
    const notice = empty_notice();
    // One a turn: a second call could wait. ENOENT: who called has died since.
    if (exec_native().receiveNotice(this.#listener, notice) < 0) return;
    this.#serve(notice).catch(() => this.#answer(notice, GO_ON));
  }

  #answer(notice: Uint8Array, error: number): void {
    exec_native().answerNotice(this.#listener, notice, error); // fails if nobody waits any more
  }

  async #serve(notice: Uint8Array): Promise<void> {
    const asked = judge(this.#listener, notice);
    if (asked === "gone") return;
    if (asked === "blind") this.#say_blind(thread_of(notice));
    if (asked === "blind" || asked === "continue") return this.#answer(notice, GO_ON);
    try {
      this.#answer(notice, await this.#grant(asked));
    } finally {
      closeSync(asked.own);
    }
  }

  #say_blind(thread: number): void {
    const { process: id = thread, name = "?" } = read_status(thread) ?? {};
    this.#complaints.say(
      "blind",
      `process ${id} (${name}) may not be looked into, so the kernel alone decides what it may bind: it is not dumpable, or Yama forbids it (kernel.yama.ptrace_scope above 0: only the program itself is served, not its children)`,
      thread,
      id,
    );
  }

  /** @returns the errno for the program; 0: it has the socket */
  async #grant(asked: Asked): Promise<number> {
    const { thread, protocol, address, port, ipv6Only, reusePort, notice } = asked;
    const wanted: Wanted = { protocol, address, port, ipv6Only, reusePort, label: label_of(asked.name) };
    const refuse = (error: LowportError) => {
      const where = `bind ${protocol} ${address.includes(":") ? `[${address}]` : address}:${port}`;
      this.#complaints.say(`${where} ${error.code}`, `${where}: ${error.code}: ${error.reason}`, thread, asked.process);
      return SEEN[error.code] ?? EACCES;
    };
    let socket: BoundSocket;
    try {
      socket = await this.#leases.obtain(wanted);
    } catch (error) {
      return refuse(error as LowportError);
    }
    try {
      const valid = exec_native().noticeIsValid(this.#listener, notice) === 0;
      const placed = valid ? put_in_place(this.#listener, asked, socket.fd) : 0;
      if (valid && placed === 0)
        this.#leases.keep(socket, wanted, fstatSync(socket.fd).ino, { process: asked.process, number: asked.number });
      else void socket.release();
      if (placed < 0)
        return refuse({ code: "EACCES", reason: `the socket cannot be put in place: ${errno_name(placed)}` } as LowportError);
      return 0;
    } finally {
      closeSync(socket.fd);
    }
  }
}

function end(leases: ProgramLeases): never {
  leases.close();
  process.exit(0);
}

/** `--listen`: asks for all of it. @returns the descriptors, which the leases do not need */
async function listen(leases: ProgramLeases, sockets: readonly ToListen[], pid: number, name: string): Promise<number[]> {
  const fds: number[] = [];
  for (const [i, { protocol, address, port }] of sockets.entries()) {
    const wanted = { protocol, address, port, ipv6Only: false, reusePort: false, label: label_of(name) };
    const socket = await leases.obtain(wanted);
    exec_native().setBlocking(socket.fd, 1);
    leases.keep(socket, wanted, fstatSync(socket.fd).ino, { process: pid, number: 3 + i });
    fds.push(socket.fd);
  }
  return fds;
}

function tell(report: Report, fds: readonly number[] = []): void {
  native().send(CHANNEL_FD, Buffer.from(`${JSON.stringify(report)}\n`), Int32Array.from(fds), fds.length);
}

/** Ends when the program and whoever has its sockets have ended. */
function watch_program(pid: number, leases: () => ProgramLeases): { ended: boolean } {
  const program = { ended: false };
  const pidfd = exec_native().openProcess(pid);
  if (pidfd >= 0)
    watch(pidfd, READABLE, () => {
      unwatch(pidfd);
      program.ended = true;
      if (!leases().any_held()) end(leases());
    });
  return program;
}

async function main(): Promise<void> {
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGPIPE"] as const)
    process.on(signal, () => undefined);
  const [order, [listener]] = await read_message<Order>(CHANNEL_FD, 1);
  process.title = `lowport exec, beside ${order.program}`;
  remember_network(CHANNEL_FD);
  await_replies(1); // stays alive though no reply is awaited
  const { program, pid, hold, socket, sockets } = order;
  if (listener !== undefined) {
    const leases = new ProgramLeases(socket, hold);
    new Supervisor(listener, leases, new Complaints(pid, order.stderr)).start();
    tell({ pid: process.pid });
  } else {
    const watched = watch_program(pid, () => leases);
    const leases: ProgramLeases = new ProgramLeases(socket, hold, () => {
      if (watched.ended && !leases.any_held()) end(leases);
    });
    try {
      const fds = await listen(leases, sockets, pid, program);
      tell({ pid: process.pid }, fds);
      for (const fd of fds) closeSync(fd);
    } catch (error) {
      const { code, reason, syscall } = error as LowportError;
      tell({ pid: process.pid, error: { code, reason, syscall } });
      end(leases);
    }
  }
  closeSync(CHANNEL_FD);
  // A fault here must not become the program's: whoever waits for an answer gets the kernel's.
  process.on("uncaughtException", () => undefined);
}

await main();
