/**
 * The engine of install: a list of changes that are made one after the other, all or none. If one fails, or a signal asks to
 * stop, those that were begun are undone in reverse order, and it is said what could not be undone. A change that fails half-way
 * is undone too, so each `undo` must cope with an `apply` that never ran to its end.
 */
import { message_of } from "../../shared/errors.js";

export interface Change {
  /** What it does, or what undo does if there is no apply, without a subject: "write /etc/lowport/lowport.json". */
  readonly says: string;
  /** Absent: there is nothing to do but to be ready for undo. */
  apply?(stop: AbortSignal): void | Promise<void>;
  undo?(): void | Promise<void>;
  /** Runs when all changes are made: removes what was kept for undo. */
  finish?(): void;
}

/** Something failed, and what was begun is undone, but for what `left` says. */
export class Undone extends Error {
  readonly left: readonly string[];
  constructor(reason: string, left: readonly string[]) {
    super(reason);
    this.name = "Undone";
    this.left = left;
  }
}

/** Lets the event loop look for signals: it does so at least once between two turns of setImmediate. */
export async function hear_signals(): Promise<void> {
  for (let turn = 0; turn < 2; turn++) await new Promise(setImmediate);
}

async function undo_all(begun: readonly Change[], say: (line: string) => void): Promise<string[]> {
  const stuck: Change[] = [];
  for (const change of begun.toReversed()) {
    if (change.undo === undefined) continue;
    say(change.apply === undefined ? change.says : `undo: ${change.says}`);
    try {
      await change.undo();
    } catch {
      stuck.push(change);
    }
  }
  // Once more: on a disk that was full there may be room now.
  const left: string[] = [];
  for (const change of stuck)
    try {
      await change.undo?.();
    } catch (error) {
      left.push(`${change.says}: cannot be undone: ${message_of(error)}`);
    }
  return left;
}

/**
 * Makes all changes, or none.
 * @param stop when it is aborted, what was made so far is undone
 * @param say is told of each change before it is made or undone
 * @returns what is not as clean as it should be, though all changes are made
 * @throws Undone
 */
export async function make_changes(
  changes: readonly Change[],
  stop: AbortSignal,
  say: (line: string) => void,
): Promise<readonly string[]> {
  const begun: Change[] = [];
  try {
    for (const change of changes) {
      await hear_signals();
      stop.throwIfAborted();
      if (change.apply !== undefined) say(change.says);
      begun.push(change);
      await change.apply?.(stop);
    }
    await hear_signals();
    stop.throwIfAborted();
  } catch (error) {
    throw new Undone(message_of(error), await undo_all(begun, say));
  }
  return begun.flatMap((change) => {
    try {
      change.finish?.();
      return [];
    } catch (error) {
      return [`${change.says}: ${message_of(error)}`];
    }
  });
}
