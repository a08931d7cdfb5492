/** Which function wants to know that which descriptor is ready; one table for an environment (main thread or worker). */
import { native } from "./native.js";

/** epoll(7) masks. Error and hang-up are always reported. */
export const READABLE = 0x001;
export const WRITABLE = 0x004;
export const HANG_UP = 0x010 | 0x008;

/** Called with the epoll mask that is set. */
export type Ready = (mask: number) => void;

/** By descriptor. */
const watched: (Ready | undefined)[] = [];
let events: Int32Array | undefined;

function on_ready(): void {
  if (events === undefined) return;
  const end = 2 * (events[0] as number);
  for (let i = 1; i < end; i += 2) {
    // A descriptor closed earlier in this turn may stand here still; its number may even be another's by now, who then
    // reads and gets EAGAIN.
    watched[events[i] as number]?.(events[i + 1] as number);
  }
}

/**
 * Waits for what is watched in the place of Node's own loop, which is then one descriptor among them. To be called before
 * anything is watched, and not in an app: there it would hide from Node's metrics that the loop is idle.
 */
export function wait_in_place_of_node(): void {
  events ??= native().pollStart(on_ready, true);
}

/** Within a call of `ready`: whether nothing else is ready in this turn. */
export const is_alone = (): boolean => events?.[0] === 1;

/** Watches `fd` for `mask`; replaces what was said of it before. @throws Error if the kernel refuses */
export function watch(fd: number, mask: number, ready: Ready): void {
  events ??= native().pollStart(on_ready, false);
  // Where the mask is empty the kernel goes on reporting errors and hang-up: EPOLLERR is always in.
  const result = native().pollWatch(fd, mask | 0x008);
  if (result < 0) throw Object.assign(new Error(`epoll_ctl on descriptor ${fd}: errno ${-result}`), { errno: result });
  watched[fd] = ready;
}

/** Forgets `fd`; to be called before it is closed. */
export function unwatch(fd: number): void {
  if (watched[fd] === undefined) return;
  watched[fd] = undefined;
  native().pollWatch(fd, 0);
}

/** Whether watched descriptors keep the process alive; they do until this says otherwise. */
export function keep_alive(keep: boolean): void {
  events ??= native().pollStart(on_ready, false);
  native().pollRef(keep);
}
