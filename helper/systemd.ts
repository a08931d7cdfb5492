/**
 * What the helper and systemd say to each other: descriptors that it passes (sd_listen_fds(3)) and what it is told
 * (sd_notify(3)), as datagrams of our own and by no library or child. A message that systemd has no room for waits; the
 * helper never does. Without systemd all of it does nothing.
 */
import { closeSync, rmSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { errno_name, native } from "../shared/native.js";
import { READABLE, unwatch, WRITABLE, watch } from "../shared/poll.js";

/** SD_LISTEN_FDS_START */
const FIRST_FD = 3;

/**
 * Descriptors that were passed to this process, by name: "control" is the control socket, others are what FDSTORE kept. Of two
 * with one name the first counts, for units' sockets come before what a helper has given to keep; the other is closed.
 */
export function passed_descriptors(env: NodeJS.ProcessEnv = process.env, close = closeSync): Map<string, number> {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES = "" } = env;
  const names = Number(LISTEN_PID) === process.pid ? LISTEN_FDNAMES.split(":").slice(0, Number(LISTEN_FDS)) : [];
  const passed = new Map<string, number>();
  for (const [i, name] of names.entries())
    if (passed.has(name)) close(FIRST_FD + i);
    else passed.set(name, FIRST_FD + i);
  return passed;
}

interface Message {
  readonly text: string;
  /** Gives the descriptor to send along when it is sent; below 0: what the message is about is gone, and so is it. */
  readonly descriptor: (() => number) | undefined;
  readonly on_sent: ((descriptor: number) => void) | undefined;
}

const NO_FD = -1;
/** Milliseconds after which a systemd that does not answer is not waited for any longer. */
const BARRIER_TIMEOUT_MS = 1000;

export class Systemd {
  readonly #fd: number;
  #waiting: Message[] = [];

  /** @throws Error if there is a NOTIFY_SOCKET and it cannot be reached */
  constructor(path = process.env["NOTIFY_SOCKET"] ?? "") {
    this.#fd = path === "" ? -1 : native().openUnix(path, -1);
    if (path !== "" && this.#fd < 0) throw new Error(`NOTIFY_SOCKET ${path}: ${errno_name(this.#fd)}`);
  }

  get present(): boolean {
    return this.#fd >= 0;
  }

  /** Sends assignments such as "READY=1", a line each, and perhaps a descriptor. */
  notify(text: string, descriptor?: () => number, on_sent?: (descriptor: number) => void): void {
    if (!this.present) return;
    this.#waiting.push({ text, descriptor, on_sent });
    this.#flush();
  }

  readonly #flush = (): void => {
    unwatch(this.#fd);
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      const fd = next.descriptor?.() ?? NO_FD;
      const gone = next.descriptor !== undefined && fd < 0;
      if (!gone && this.#send(next.text, fd) === -constants.errno.EAGAIN) return watch(this.#fd, WRITABLE, this.#flush);
      this.#waiting.shift();
      next.on_sent?.(fd);
    }
  };

  #send(text: string, fd: number): number {
    const fds = fd < 0 ? [] : [fd];
    return native().send(this.#fd, Buffer.from(text), Int32Array.from(fds), fds.length);
  }

  /**
   * Resolves when systemd has done all that it was told before: it then closes the descriptor that comes with BARRIER=1.
   * @param folder where nobody else can make a socket
   */
  async barrier(folder: string): Promise<void> {
    const path = join(folder, "barrier");
    const listener = native().openUnix(path, 1);
    const theirs = native().openUnix(path, 0);
    const ours = native().acceptUnix(listener);
    rmSync(path, { force: true });
    if (listener >= 0) closeSync(listener);
    if (ours < 0 && theirs >= 0) closeSync(theirs);
    if (ours < 0) return; // out of descriptors
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, BARRIER_TIMEOUT_MS);
      watch(ours, READABLE, () => {
        clearTimeout(timer);
        resolve();
      });
      this.notify("BARRIER=1", () => theirs, closeSync);
    });
    unwatch(ours);
    closeSync(ours);
  }

  /** Tells the watchdog that the event loop turns, twice in the time that it gives (sd_watchdog_enabled(3)). */
  start_watchdog(status: () => string, { WATCHDOG_USEC, WATCHDOG_PID }: NodeJS.ProcessEnv = process.env): void {
    const usec = Number(WATCHDOG_USEC ?? 0);
    if (usec > 0 && Number(WATCHDOG_PID ?? process.pid) === process.pid)
      setInterval(() => this.notify(`WATCHDOG=1\nSTATUS=${status()}`), usec / 2000).unref();
  }
}
