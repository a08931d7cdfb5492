/** Time without an event loop; in a file of its own, because lowport/register loads little. */

/** Milliseconds of a clock that is never set. Not performance.now(), which takes half a millisecond to load. */
export const now = () => 1000 * process.uptime();

/** Blocks this thread. */
export function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
