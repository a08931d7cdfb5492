/** Trying to listen without the program noticing when it fails: the next rung of the ladder may work. */
import type { EventEmitter } from "node:events";
import { LowportError } from "./errors.js";

/**
 * Runs `start`, which makes `emitter` emit "listening" or "error". The error goes to the caller and not to the emitter's
 * own listeners; "listening" goes to both.
 */
export function attempt(emitter: EventEmitter, start: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const own = Object.getOwnPropertyDescriptor(emitter, "emit");
    const emit = emitter.emit.bind(emitter);
    const restore = () => {
      if (own === undefined) Reflect.deleteProperty(emitter, "emit");
      else Object.defineProperty(emitter, "emit", own);
    };
    emitter.emit = (event: string | symbol, ...args: unknown[]): boolean => {
      if (event !== "error" && event !== "listening" && event !== "close") return emit(event, ...args);
      restore();
      if (event === "error") {
        reject(args[0]);
        return true;
      }
      if (event === "listening") resolve();
      else reject(new LowportError("ECANCELED", "listen", "it was closed before it listened"));
      return emit(event, ...args);
    };
    try {
      start();
    } catch (error) {
      restore();
      reject(error);
    }
  });
}
