/** Trying to listen without the program noticing when it fails: the next rung of the ladder may work. */
import type { EventEmitter } from "node:events";
import { LowportError } from "./errors.js";
import { before_outcome, tried } from "./outcome.js";

/**
 * Runs `start`, which makes `emitter` emit "listening" or "error". The error goes to the caller and not to the emitter's
 * own listeners; "listening" goes to both.
 */
export function attempt(emitter: EventEmitter, start: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    tried.add(emitter);
    const stop = before_outcome(emitter, (event, error) => {
      tried.delete(emitter);
      if (event === "listening") resolve();
      else reject(event === "error" ? error : new LowportError("ECANCELED", "listen", "it was closed before it listened"));
      return event !== "error";
    });
    try {
      start();
    } catch (error) {
      tried.delete(emitter);
      stop();
      reject(error);
    }
  });
}
