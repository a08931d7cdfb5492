/** Waiting for something to happen to a log: inotify(7) on its folder, and where there is no folder or no watch left, a look a second. */
import { type FSWatcher, statSync, watch } from "node:fs";
import { basename, dirname } from "node:path";

/** Milliseconds between two looks where nothing tells. */
const POLL_MS = 1000;

/** Tells of changes to a log and to the files that rotation makes of it. */
export class LogWatch {
  readonly #folder: string;
  readonly #name: string;
  readonly #signal: AbortSignal;
  #watcher: FSWatcher | undefined;
  /** The folder that is watched: a new one may have its name. */
  #ino: number | undefined;
  #changed = false;
  #wake: (() => void) | undefined;

  constructor(path: string, signal: AbortSignal) {
    this.#folder = dirname(path);
    this.#name = basename(path);
    this.#signal = signal;
    signal.addEventListener("abort", () => this.#note());
  }

  #note(): void {
    this.#changed = true;
    this.#wake?.();
  }

  #unwatch(): void {
    this.#watcher?.close();
    this.#watcher = this.#ino = undefined;
  }

  /** Watches the folder that is there now. */
  #rewatch(): void {
    try {
      const { ino } = statSync(this.#folder);
      if (this.#watcher !== undefined && ino === this.#ino) return;
      this.#unwatch();
      this.#watcher = watch(this.#folder, (_, name) => {
        // The folder itself has gone; one that is made at once can have its number.
        const gone = name === basename(this.#folder);
        if (gone) this.#unwatch();
        if (gone || name === null || name.startsWith(this.#name)) this.#note();
      });
      this.#watcher.on("error", () => {
        this.#unwatch();
        this.#note();
      });
      this.#ino = ino;
      this.#changed = true; // what happened before it was watched
    } catch {
      this.#unwatch();
    }
  }

  /** From now on changes count: what is read after this call is not missed by `wait`. */
  arm(): void {
    this.#changed = false;
    this.#rewatch();
  }

  /** Waits for a change since `arm`, or for a while where nothing tells of one. */
  async wait(): Promise<void> {
    if (this.#changed || this.#signal.aborted) return;
    await new Promise<void>((wake) => {
      const timer = this.#watcher === undefined ? setTimeout(wake, POLL_MS) : undefined;
      this.#wake = () => {
        clearTimeout(timer);
        wake();
      };
    });
    this.#wake = undefined;
  }

  close(): void {
    this.#unwatch();
  }
}
