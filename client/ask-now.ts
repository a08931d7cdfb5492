/**
 * The helper's part in a bind that the kernel refused to a program which knows nothing of lowport (register.ts). Node must
 * have its answer at once, so the event loop stands still until the helper has answered: a fraction of a millisecond, some 6 the
 * first time, and TIMEOUT_MS at the very most. What the helper refuses stays Node's own error, with the helper's reason in its message.
 */
import type { EventEmitter } from "node:events";
import { createRequire } from "node:module";
import { uptime_ms as now } from "../shared/clock.js";
import { MAX_HOLD_SECONDS } from "../shared/protocol.js";
import { block } from "./clock.js";
import type { LowportError } from "./errors.js";
import { before_outcome, EACCES } from "./outcome.js";
import type { BindOptions, BoundSocket } from "./types.js";

/** Milliseconds that a program stands still for a helper that does not answer. */
const TIMEOUT_MS = 5_000;
/** A result of Node's handles: the kernel refused. */
export const REFUSED = -EACCES;

/** Loaded at the first refusal: most programs that are preloaded (by NODE_OPTIONS, say) never need it. */
function library() {
  loaded ??= createRequire(import.meta.url)("./index.js") as typeof import("./index.js");
  return loaded;
}
let loaded: typeof import("./index.js") | undefined;

/** What the program wants to bind. */
export interface Wanted {
  readonly protocol: "tcp" | "udp";
  /** An IP address; undefined for all: IPv6 and IPv4 together, or IPv4 alone on a host without IPv6. */
  readonly address: string | undefined;
  readonly port: number;
  readonly ipv6Only: boolean;
  readonly reusePort: boolean;
  /** Takes part in a socket that this user has: only in a cluster worker, where the primary would share its own. */
  readonly share: boolean;
}

/** One of Node's handles, as far as it matters here. */
export interface Handle {
  close: (...args: unknown[]) => unknown;
}

/** Leases whose server has closed, each with what gives it back. */
const kept = new Map<BoundSocket, () => void>();

/** @throws LowportError where it is no number */
function read_hold(): number {
  const text = process.env["LOWPORT_HOLD"] || "0";
  if (/^[0-9]+$/.test(text) && Number(text) <= MAX_HOLD_SECONDS) return Number(text);
  throw new (library().LowportError)(
    "EINVAL",
    "bind",
    `LOWPORT_HOLD is "${text}", and must be seconds from 0 to ${MAX_HOLD_SECONDS}`,
  );
}

/**
 * Gives a lease back when its handle closes. One with a hold is kept for its time, or else until this process ends, when the
 * helper begins to hold it: a program that closes its server in order to end loses no connection to the next one.
 */
function give_back_at_close(handle: Handle, lease: BoundSocket, hold: number): void {
  const { close } = handle;
  handle.close = (...args) => {
    handle.close = close;
    if (hold === 0) void lease.release();
    else {
      const timer = setTimeout(() => kept.get(lease)?.(), hold * 1000).unref();
      kept.set(lease, () => {
        clearTimeout(timer);
        kept.delete(lease);
        void lease.release();
      });
    }
    return close.apply(handle, args);
  };
}

function bind_now(wanted: Wanted, hold: number): BoundSocket {
  const { protocol, address, port, ipv6Only, reusePort, share } = wanted;
  const label = process.env["LOWPORT_LABEL"] || undefined;
  const give_up = now() + TIMEOUT_MS;
  const ask = (at: string, again = true): BoundSocket => {
    try {
      const asked = { protocol, address: at, port, ipv6Only, reusePort, share, hold, label, timeout: TIMEOUT_MS };
      return library()
        .Client.shared()
        .bind_now(asked as BindOptions); // what is undefined is not sent
    } catch (error) {
      // The helper has been restarted, and the event loop had no time yet to notice.
      const { code, retryAfterMs = 0 } = error as LowportError;
      if (again && code === "ECONNRESET") return ask(at, false);
      if (address === undefined && at === "::" && code === "EADDRNOTAVAIL") return ask("0.0.0.0");
      if (code !== "EAGAIN" || now() + retryAfterMs > give_up) throw error;
      block(retryAfterMs);
      return ask(at, again);
    }
  };
  return ask(address ?? "::");
}

/**
 * Asks the helper, and makes a handle of what it grants.
 * @param adopt makes the handle, which owns the descriptor from then on
 * @throws LowportError
 */
export function ask_now<H extends Handle>(wanted: Wanted, adopt: (fd: number) => H): { handle: H; lease: BoundSocket } {
  const hold = read_hold();
  for (const [{ protocol, port }, end] of kept) if (protocol === wanted.protocol && port === wanted.port) end();
  const lease = bind_now(wanted, hold);
  const handle = adopt(lease.fd);
  give_back_at_close(handle, lease, hold);
  return { handle, lease };
}

/** What the refused bind gives to Node: a code that the kernel's own bind has, for programs know no others. */
export function errno_of(error: unknown): number {
  const { code } = error as LowportError;
  const { constants } = process.getBuiltinModule("node:os"); // only here, because it takes time to load
  return code === "EADDRINUSE" || code === "EADDRNOTAVAIL" ? -constants.errno[code] : REFUSED;
}

/** Adds why the helper could not help to an error of Node's. */
export function explain(error: Error, refusal: unknown): void {
  const { message, stack } = error;
  error.message = `${message}; ${(refusal as Partial<LowportError>).reason ?? String(refusal)}`;
  if (stack !== undefined) error.stack = stack.replace(message, () => error.message);
  error.cause = refusal;
}

/** The same for the error that is about to be emitted. */
export function explain_next_error(emitter: EventEmitter, refusal: unknown): void {
  before_outcome(emitter, (event, error) => {
    if (event === "error") explain(error, refusal);
    return true;
  });
}
