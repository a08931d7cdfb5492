/** Waiting: for some time, until a signal is aborted, or with the event loop standing still. */
import type { CallOptions } from "./types.js";

export const sleep = (ms: number) => new Promise<void>((wake) => setTimeout(wake, ms));

/** Blocks this thread. */
export function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/**
 * @param late makes the error that says so
 * @returns a promise that rejects when the waiting is over, and a function to be called when it is no longer needed
 */
export function time_limit({ signal, timeout }: CallOptions, late: () => Error): { over: Promise<never>; clear: () => void } {
  let reject: (reason: unknown) => void = () => undefined;
  const over = new Promise<never>((_, rejects) => {
    reject = rejects;
  });
  const timer = setTimeout(() => reject(late()), timeout);
  const on_abort = () => reject(signal?.reason);
  signal?.addEventListener("abort", on_abort, { once: true });
  const clear = () => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", on_abort);
  };
  return { over, clear };
}
