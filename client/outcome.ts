/** How listening ends: the first that hears of it, and whether somebody else does already. */
import type { EventEmitter } from "node:events";

/** errno(3), the same on every Unix. Not of node:os, which takes time to load. */
export const EACCES = 13;

/** What `attempt` is at work on; on the global object, for there may be two copies of this package. */
const KEY = Symbol.for("lowport.tried");
const known = globalThis as unknown as { [KEY]?: WeakSet<EventEmitter> };
export const tried: WeakSet<EventEmitter> = known[KEY] ?? new WeakSet();
if (known[KEY] === undefined) Object.defineProperty(known, KEY, { value: tried });

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
