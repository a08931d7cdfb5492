/** What the process that becomes the program and its supervisor tell each other, once each: a line of JSON, with descriptors. */
import { LineReader } from "../../shared/framing.js";
import { errno_name, MAX_FDS } from "../../shared/native.js";
import { READABLE, unwatch, watch } from "../../shared/poll.js";
import { LowportError } from "../errors.js";
import { exec_native } from "./native.js";
import type { FileId } from "./stderr.js";

/** The supervisor's end (client/native/launch.c). */
export const CHANNEL_FD = 3;

/** One `--listen`. */
export interface ToListen {
  readonly protocol: "tcp" | "udp";
  readonly address: string;
  readonly port: number;
}

/** To the supervisor; a listener of seccomp goes with it, or none with `--listen`. */
export interface Order {
  readonly pid: number;
  /** Its name, for people. */
  readonly program: string;
  /** Seconds. */
  readonly hold: number;
  readonly socket?: string | undefined;
  readonly sockets: readonly ToListen[];
  readonly stderr?: FileId | undefined;
}

/** From the supervisor, when it is ready; the sockets of `--listen` go with it. */
export interface Report {
  readonly pid: number;
  readonly error?: { readonly code: string; readonly reason: string; readonly syscall: string };
}

const MAX_BYTES = 65_536;

/** Waits for a line on a Unix stream socket. @throws LowportError if the other side is gone before */
export function read_message<T>(fd: number, most: number): Promise<[message: T, fds: number[]]> {
  const reader = new LineReader(MAX_BYTES);
  const chunk = Buffer.alloc(MAX_BYTES);
  const received = new Int32Array(MAX_FDS + 1);
  const fds: number[] = [];
  return new Promise((resolve, reject) => {
    const stop = (error: string) => {
      unwatch(fd);
      reject(new LowportError("ECONNRESET", "exec", error));
    };
    watch(fd, READABLE, () => {
      const got = exec_native().receiveWithFds(fd, chunk, received);
      if (got < 0 && errno_name(got) === "EAGAIN") return;
      if (got <= 0) return stop("the supervisor could not be started, or was killed");
      fds.push(...received.subarray(1, 1 + (received[0] as number)));
      reader.push(chunk, got);
      const line = reader.next();
      if (line === undefined) return reader.keep();
      if (typeof line !== "string" || fds.length > most) return stop("the supervisor said what makes no sense");
      unwatch(fd);
      resolve([JSON.parse(line) as T, fds]);
    });
  });
}
