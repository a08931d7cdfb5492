/**
 * Leases that are given back, until the helper has taken them: it may refuse at first, because the user asks too often or the
 * audit log is full, and a lease that were forgotten then would live as long as this process. Nobody waits for it.
 */
import type { LeaseEntry } from "../shared/methods.js";
import type { LowportError } from "./errors.js";
import type { BoundSocket } from "./types.js";

/** Refusals that may be over at the next attempt. */
export const PASSING = new Set(["EAGAIN", "EIO", "EMFILE", "ESHUTDOWN", "ETIMEDOUT"]);
/** Milliseconds until the next attempt, where the helper does not say. */
const RETRY_MS = 1_000;

/** What is known of a lease that is given back. */
export type Returned = Pick<BoundSocket, "lease" | "protocol" | "port">;

/** sent: its answer is to come. lost: its connection ended before that, and so the lease is held now, or has ended. */
type State = "sent" | "refused" | "lost";

export class Returns {
  readonly #states = new Map<Returned, State>();
  readonly #send: (returned: Returned) => boolean;
  #timer: NodeJS.Timeout | undefined;

  /** @param send gives false if there is no connection */
  constructor(send: (returned: Returned) => boolean) {
    this.#send = send;
  }

  /** Some have not been taken yet. */
  get any(): boolean {
    return this.#states.size > 0;
  }

  give(returned: Returned): void {
    this.#states.set(returned, this.#send(returned) ? "sent" : "lost");
  }

  /** @param error the helper's, if it has refused */
  answered(returned: Returned, error?: LowportError): void {
    if (error === undefined || !PASSING.has(error.code)) {
      this.#states.delete(returned);
      if (this.#timer === undefined) this.#give_next();
      return;
    }
    this.#states.set(returned, "refused");
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#give_next(), error.retryAfterMs ?? RETRY_MS).unref();
  }

  /** One at a time: each that is refused for its rate costs what it lacks. */
  #give_next(): void {
    this.#timer = undefined;
    for (const [returned, state] of this.#states) if (state === "refused") return this.give(returned);
  }

  /** Before a port is asked for: what had it before goes first. */
  before({ protocol, port }: Omit<Returned, "lease">): void {
    for (const [returned, state] of this.#states)
      if (returned.protocol !== protocol || returned.port !== port) continue;
      else if (state === "refused") this.give(returned);
      else if (state === "lost") this.#states.delete(returned); // it is resumed, or in the way of nobody
  }

  on_close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const returned of this.#states.keys()) this.#states.set(returned, "lost");
  }

  /** @param leases the user's. What is not held is gone, or another process of the user has it by now: that is its own. */
  after_reconnect(leases: readonly LeaseEntry[]): void {
    for (const [returned, state] of this.#states) {
      if (state !== "lost") continue;
      if (leases.some(({ lease, state: now }) => lease === returned.lease && now === "held")) this.give(returned);
      else this.#states.delete(returned);
    }
  }
}
