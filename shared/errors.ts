/**
 * The error convention of the whole program: an expected refusal is a LowportError with a name from ERRORS (or one of
 * JSON-RPC's numbers); everything else that is thrown is a bug, answered -32603 without any detail.
 * `reason` says what, on what, why, and what to do.
 */
import { ERRORS, type ErrorName } from "./protocol.js";

/** What stands in `error.data` of a reply. */
export interface ErrorData {
  /** The name; absent for errors of JSON-RPC itself. */
  code?: ErrorName;
  /** One sentence: what, on what, why, and what to do. */
  reason: string;
  /** JSON pointer to the member of params that is wrong (-32602). */
  path?: string;
  /** Which limit is reached (EDQUOT), by its name in the config, and its value. */
  limit?: string;
  max?: number;
  /** Milliseconds after which the next request is welcome (EAGAIN). */
  retryAfterMs?: number;
  /** The audit record that has the details (EINTERNAL). */
  auditSeq?: number;
}

/** A refusal, on its way to the peer. */
export class LowportError extends Error {
  /** The number for `error.code`. */
  readonly number: number;
  readonly data: ErrorData;

  constructor(number: number, data: ErrorData) {
    super(data.reason);
    this.name = "LowportError";
    this.number = number;
    this.data = data;
  }
}

/** A refusal by one of lowport's own names. */
export function refusal(name: ErrorName, reason: string, more: Omit<ErrorData, "code" | "reason"> = {}): LowportError {
  return new LowportError(ERRORS[name].code, { code: name, reason, ...more });
}

/** The text of anything thrown. */
export function message_of(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** Node's name for a failed system call ("ENOENT"), or undefined if something else was thrown. */
export function errno_of(error: unknown): string | undefined {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  return typeof code === "string" ? code : undefined;
}
