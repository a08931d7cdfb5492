/** Trying to listen without the program noticing when it fails: the next rung of the ladder may work. */
import type { EventEmitter } from "node:events";
import { LowportError } from "./errors.js";

const tried = new WeakSet<EventEmitter>();

/** Whether `attempt` is at work on it, which deals with a refusal itself: register.ts keeps out of that. */
export function is_tried(emitter: EventEmitter): boolean {
  return tried.has(emitter);
}

/** How listening can end. */
export type Outcome = "listening" | "error" | "close";

/**
 * Tells `decide` of the first outcome that `emitter` emits, before its own listeners, who hear of it only if `decide` says so.
 * @returns a function that stops this
 */
export function before_outcome(emitter: EventEmitter, decide: (event: Outcome, error: Error) => boolean): () => void {
  const own = Object.getOwnPropertyDescriptor(emitter, "emit");
  const emit = emitter.emit.bind(emitter);
  let over = false;
  const restore = () => {
    over = true;
    if (emitter.emit !== first) return; // somebody has wrapped it meanwhile: it only passes on from now
    if (own === undefined) Reflect.deleteProperty(emitter, "emit");
    else Object.defineProperty(emitter, "emit", own);
  };
  const first = (event: string | symbol, ...args: unknown[]): boolean => {
    if (over || (event !== "error" && event !== "listening" && event !== "close")) return emit(event, ...args);
    restore();
    return decide(event, args[0] as Error) ? emit(event, ...args) : true;
  };
  emitter.emit = first;
  return restore;
}

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
