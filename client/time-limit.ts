/** Waiting: for some time, until a signal is aborted, or to try again. */
import { LowportError } from "./errors.js";
import type { CallOptions } from "./types.js";

export const sleep = (ms: number) => new Promise<void>((wake) => setTimeout(wake, ms));

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

/** Milliseconds between attempts: doubled from the first to the last. */
const RETRY_MS = { first: 100, last: 5_000 };

/** Tries until there is no LowportError any more. Does not keep the process alive. */
export class Attempts {
  readonly #attempt: () => Promise<void>;
  #timer: NodeJS.Timeout | undefined;

  constructor(attempt: () => Promise<void>) {
    this.#attempt = attempt;
  }

  start(delay = RETRY_MS.first): void {
    this.stop();
    this.#timer = setTimeout(() => void this.#try(delay), delay).unref();
  }

  async #try(delay: number): Promise<void> {
    try {
      await this.#attempt();
    } catch (error) {
      if (!(error instanceof LowportError)) throw error;
      this.start(Math.min(2 * delay, RETRY_MS.last));
    }
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}
