/** Waiting: for some time, until a signal is aborted, or with the event loop standing still. */
import type { CallOptions } from "./types.js";

/** Milliseconds of a clock that is never set. Not performance.now(), which takes half a millisecond to load. */
export const now = () => 1000 * process.uptime();

export const sleep = (ms: number) => new Promise<void>((wake) => setTimeout(wake, ms));

/** Blocks this thread. */
export function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/**
 * @param late makes the error that says so
 * @param over is told why, when the waiting is over
 * @returns a function to be called when it is no longer needed
 */
export function time_limit({ signal, timeout }: CallOptions, late: () => Error, over: (why: unknown) => void): () => void {
  const timer = setTimeout(() => over(late()), timeout);
  if (signal === undefined) return () => clearTimeout(timer);
  const on_abort = () => over(signal.reason);
  signal.addEventListener("abort", on_abort, { once: true });
  return () => {
    clearTimeout(timer);
    signal.removeEventListener("abort", on_abort);
  };
}
