/**
 * What each user has and may still ask for. Accounting is by uid and not by connection, because connections are free: a
 * user with 16 of them has one budget. The rate is a token bucket: it fills with `requestsPerSecond` up to
 * `requestBurst`, and each request and each connection takes from it.
 */
import { uptime_ms } from "../shared/clock.js";
import type { Limits } from "../shared/protocol.js";

export interface Account {
  readonly uid: number;
  connections: number;
  /** References to sockets: each grant counts, a held lease counts once. */
  sockets: number;
  /** The same by the name of the rule that allowed them. */
  readonly byRule: Map<string, number>;
  tokens: number;
  /** Milliseconds, monotonic. */
  filledAt: number;
  /** Until when (monotonic milliseconds) nothing more is read from this user, because it was refused for its rate. */
  pausedUntil: number;
  /** When a connection was turned away and recorded last: not each of a crowd is. */
  turnedAwayAt: number;
}

/** Of a token: what sums of fractions may be off. Who has waited as long as was said has enough. */
const ROUNDING = 1e-6;
/** Accounts of users without connection or socket that are kept, so that a new connection does not mean a new bucket. */
const KEEP_IDLE = 4096;

export class Accounts {
  readonly #byUid = new Map<number, Account>();

  /** The account of a user; made if there is none. */
  of(uid: number, limits: Limits): Account {
    const known = this.#byUid.get(uid);
    if (known !== undefined) return known;
    if (this.#byUid.size >= KEEP_IDLE) this.#forget_idle(limits);
    const filledAt = uptime_ms();
    const account: Account = {
      ...{ uid, connections: 0, sockets: 0, byRule: new Map(), tokens: limits.requestBurst, filledAt },
      ...{ pausedUntil: 0, turnedAwayAt: Number.NEGATIVE_INFINITY },
    };
    this.#byUid.set(uid, account);
    return account;
  }

  #forget_idle(limits: Limits): void {
    for (const account of this.#byUid.values()) {
      fill(account, limits);
      if (account.connections + account.sockets === 0 && account.tokens >= limits.requestBurst) this.#byUid.delete(account.uid);
    }
  }
}

function fill(account: Account, limits: Limits): void {
  const now = uptime_ms();
  const more = ((now - account.filledAt) / 1000) * limits.requestsPerSecond;
  account.tokens = Math.min(limits.requestBurst, account.tokens + more);
  account.filledAt = now;
}

/**
 * Takes tokens for a request or a connection. A refusal costs them too (it is read, answered and recorded like the others),
 * so an account can be in debt, down to the burst; until it has a token again, nothing is read from its connections.
 * @param cost tokens; 1, and more for what takes longer to read
 * @returns 0, or the milliseconds until there will be a token
 */
export function take_tokens(account: Account, limits: Limits, cost = 1): number {
  fill(account, limits);
  const enough = account.tokens > 1 - ROUNDING;
  account.tokens = Math.max(account.tokens - cost, -limits.requestBurst);
  if (enough) return 0;
  const wait = Math.ceil(((1 - account.tokens) / limits.requestsPerSecond) * 1000);
  account.pausedUntil = uptime_ms() + wait;
  return wait;
}

/** Counts references to a socket, or takes them away, under the rule that allowed it, and the other one if it took two. */
export function count_socket(account: Account, rule: string, change: number, also = rule): void {
  account.sockets += change;
  count_under(account, rule, change);
  if (also !== rule) count_under(account, also, change);
}

function count_under({ byRule }: Account, rule: string, change: number): void {
  const left = (byRule.get(rule) ?? 0) + change;
  if (left > 0) byRule.set(rule, left);
  else byRule.delete(rule);
}
