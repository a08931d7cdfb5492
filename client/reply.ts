/** The form of what the helper answers: whatever listens on the socket could be something else. */
import type { LowportError } from "./errors.js";
import type { Returned } from "./returns.js";

/** A JSON-RPC response, as far as its form has been looked at. */
export interface Reply {
  readonly id: number | string | null;
  readonly result?: { readonly fds?: number; readonly lease?: string };
  readonly error?: { readonly code: number; readonly message: string; readonly data?: unknown };
}

/** What is kept of a request until its reply has come. */
export interface Waiting {
  readonly method: string;
  /** Nobody waits any more: what comes is given back. */
  abandoned: boolean;
  /** What is given back, if that is asked for. */
  readonly returned?: Returned;
  reply?: Reply;
  fds: number[];
  /** Ends the waiting; left out by who looks for the reply itself. */
  end?: (error?: LowportError) => void;
}

const is_object = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;

export function is_reply(message: unknown): message is Reply {
  if (!is_object(message)) return false;
  const { result, error } = message;
  if (error === undefined) return is_object(result) && ["number", "undefined"].includes(typeof result["fds"]);
  return result === undefined && is_object(error) && typeof error["code"] === "number";
}
