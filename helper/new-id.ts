/** Ids that nobody can guess. By the kernel, because to load node:crypto takes 3 ms of the start. */
import { openSync, readSync } from "node:fs";

const BYTES = 8;
/** For the next ids, as many as urandom(4) gives in one piece. */
const random = Buffer.alloc(256);
let used = random.length;
/** Opened for the first id, which is made before the helper serves, and kept open: no later one takes a free descriptor. */
let urandom = -1;

/**
 * A new id. Never begins with -, which a command would take for an option; systemd passes the ids of all leases in one variable.
 * @throws Error if there is no /dev/urandom, or what stands there is not the kernel's
 */
export function new_id(): string {
  if (used === random.length) {
    if (urandom < 0) urandom = openSync("/dev/urandom", "r");
    if (readSync(urandom, random) < random.length)
      throw new Error("/dev/urandom gives no random bytes; mount a /dev that has it");
    used = 0;
  }
  return random.toString("hex", used, (used += BYTES));
}
