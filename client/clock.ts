/** To wait without an event loop; in a file of its own, because lowport/register loads little. */

/** Blocks this thread. */
export function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
