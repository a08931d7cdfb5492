/**
 * JSON-RPC 2.0's outer form, checked before anything else is done with a message: what comes after it relies on a request that is
 * an object, with a valid id or none, in a batch that has an end.
 */
import { LowportError, message_of } from "../shared/errors.js";
import { type Line, NOT_UTF8, TOO_LONG } from "../shared/framing.js";
import { INVALID_REQUEST, MAX_BATCH, MAX_ID_LENGTH, MAX_LINE_BYTES, PARSE_ERROR } from "../shared/protocol.js";

export type Id = string | number;

/** A request as it came. `id` is absent for a notification, which is never executed. */
export interface Request {
  readonly jsonrpc: "2.0";
  readonly method: string;
  readonly params?: unknown;
  readonly id?: Id;
}

/** One element of a message: a request, or why it is none, with the id to answer to if it has a valid one. */
export type Element = { readonly request: Request } | { readonly fault: LowportError; readonly id: Id | undefined };

export interface Message {
  readonly batch: boolean;
  readonly elements: readonly Element[];
}

const MEMBERS = new Set(["jsonrpc", "method", "params", "id"]);

const invalid = (reason: string) => new LowportError(INVALID_REQUEST, { reason });

function is_id(value: unknown): value is Id {
  if (typeof value !== "string") return Number.isSafeInteger(value);
  // A lone surrogate is no character: it would stand otherwise in the audit log than in the reply.
  return value.length <= 2 * MAX_ID_LENGTH && Array.from(value).length <= MAX_ID_LENGTH && !/\p{Surrogate}/u.test(value);
}

function fault_of(value: unknown): string | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return "a request is a JSON object";
  const { jsonrpc, method, params, id } = value as Record<string, unknown>;
  if (jsonrpc !== "2.0") return '"jsonrpc" must be "2.0"';
  if (typeof method !== "string") return '"method" must be a string';
  if (Object.hasOwn(value, "id") && !is_id(id))
    return `"id" must be a string of up to ${MAX_ID_LENGTH} characters or an integer within 2^53-1`;
  if (Object.hasOwn(value, "params") && (typeof params !== "object" || params === null)) return '"params" must be an object';
  for (const member in value)
    if (!MEMBERS.has(member)) return "a request has jsonrpc, method, params and id, and no other member";
  return undefined;
}

function read_element(value: unknown): Element {
  const fault = fault_of(value);
  if (fault === undefined) return { request: value as Request };
  const id = (value as { id?: unknown } | null)?.id;
  return { fault: invalid(`${fault}; send a JSON-RPC 2.0 request`), id: is_id(id) ? id : undefined };
}

const one = (fault: LowportError): Message => ({ batch: false, elements: [{ fault, id: undefined }] });

/** What is answered to a line that is too long. */
export const LONG_LINE = one(invalid(`a line has at most ${MAX_LINE_BYTES} bytes; the connection is closed`));

/** A line as a message. Never throws: what is wrong becomes its element. */
export function read_message(line: Line): Message {
  if (line === TOO_LONG) return LONG_LINE;
  if (line === NOT_UTF8) return one(new LowportError(PARSE_ERROR, { reason: "the line is not UTF-8; send UTF-8" }));
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    return one(
      new LowportError(PARSE_ERROR, {
        reason: `the line is not JSON: ${message_of(error).slice(0, 200)}; send one JSON text a line`,
      }),
    );
  }
  if (!Array.isArray(value)) return { batch: false, elements: [read_element(value)] };
  if (value.length === 0) return one(invalid("the batch is empty; send at least one request"));
  if (value.length > MAX_BATCH) return one(invalid(`the batch has ${value.length} requests; send at most ${MAX_BATCH}`));
  return { batch: true, elements: value.map(read_element) };
}
