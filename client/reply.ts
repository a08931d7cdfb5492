/** The form of what the helper answers: whatever listens on the socket could be something else. */
import type { JSONRPCResponse } from "json-rpc-2.0";
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
}

const is_object = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;

export function is_reply(message: unknown): message is Reply {
  if (!is_object(message)) return false;
  const { result, error } = message;
  if (error === undefined) return is_object(result) && ["number", "undefined"].includes(typeof result["fds"]);
  return result === undefined && is_object(error) && typeof error["code"] === "number";
}

/** A reply as the dispatcher takes it. */
export function as_response({ id, result, error }: Reply): JSONRPCResponse {
  return error === undefined ? { jsonrpc: "2.0", id, result } : { jsonrpc: "2.0", id, error: { ...error } };
}
