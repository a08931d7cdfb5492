/**
 * One request on its way: dispatched, answered, and described for the audit log. The order is fixed: rate, method, schema,
 * handler (which asks policy and quota). Every way out of it, expected or not, ends in a response and a record.
 */
import {
  createJSONRPCErrorResponse,
  createJSONRPCSuccessResponse,
  type JSONRPCErrorResponse,
  type JSONRPCResponse,
} from "json-rpc-2.0";
import type { Logger } from "pino";
import { uptime_ms } from "../shared/clock.js";
import { LowportError, refusal } from "../shared/errors.js";
import * as validators from "../shared/generated/params.js";
import type { MethodName, Params } from "../shared/methods.js";
import { ERRORS, INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR } from "../shared/protocol.js";
import { describe } from "../shared/validate.js";
import type { Account } from "./account.js";
import type { AuditRecord, Fate } from "./audit.js";
import { type Element, type Id, LONG_LINE, type Request } from "./envelope.js";
import type { Lease } from "./lease.js";
import type { Peer } from "./policy.js";

/** The connection a call came by, as far as a handler may know it. */
export interface Caller {
  readonly number: number;
  readonly peer: Peer;
  readonly account: Account;
}

export interface Call extends Fate {
  readonly caller: Caller;
  /** Its audit record, which the handlers add to. */
  readonly record: AuditRecord;
  /** The reply; undefined for a notification, which gets none. */
  response: JSONRPCResponse | undefined;
  /** Whose socket goes with the reply. */
  lease?: Lease;
  /** Takes its effect back if it could not be recorded. */
  undo?: () => void;
}

/** What a method does. Synchronous; an expected refusal is thrown as LowportError. */
export type Handlers = { readonly [M in MethodName]: (params: Params<M>, call: Call) => object };

/** Characters of an unknown method's name that the audit log keeps. */
const METHOD_LENGTH = 64;

const MESSAGES: Record<number, string> = {
  [PARSE_ERROR]: "Parse error",
  [INVALID_REQUEST]: "Invalid Request",
  [METHOD_NOT_FOUND]: "Method not found",
  [INVALID_PARAMS]: "Invalid params",
  [INTERNAL_ERROR]: "Internal error",
};

/** The reply that tells of an error; `id` null where the request's could not be read. */
export function error_response(id: string | number | null, { number, data }: LowportError): JSONRPCErrorResponse {
  const message = MESSAGES[number] ?? (data.code ? ERRORS[data.code].cause : data.reason);
  return createJSONRPCErrorResponse(id, number, message, data);
}

function decision_of(number: number): "deny" | "invalid" | "error" {
  if (number === INTERNAL_ERROR) return "error";
  return number < 0 ? "invalid" : "deny";
}

/** Writes a refusal into the call's response and record. */
export function refuse(call: Call, error: LowportError): void {
  const { record } = call;
  call.response = error_response(record.id ?? null, error);
  record.decision = decision_of(error.number);
  record.code = error.data.code ?? error.number;
  record.reason ??= error.data.reason;
}

export interface Services {
  readonly handlers: Handlers;
  readonly log: Logger;
  /** The number that the call's audit record will have, for an internal error's reply. */
  readonly next_seq: () => number;
  /** Throws if the caller has used up its rate, or the helper is stopping. */
  readonly admit: (call: Call) => void;
  /** Resolves when sockets of leases that have ended are closed everywhere; undefined: they are. */
  readonly settled: () => Promise<void> | undefined;
  /** Takes the record of a call that has ended. */
  readonly on_end: (call: Call) => void;
}

/** Makes the function that answers one element of a message: at once, or by a promise that never rejects. */
export function make_dispatcher({
  handlers,
  log,
  next_seq,
  admit,
  settled,
  on_end,
}: Services): (element: Element, call: Call) => Promise<void> | void {
  const methods = new Map<string, (params: unknown, call: Call) => object>();
  for (const name of Object.keys(handlers) as MethodName[]) {
    const validate = validators[name.replace(".", "_") as keyof typeof validators];
    const run = handlers[name] as (params: unknown, call: Call) => object;
    methods.set(name, (params, call) => {
      if (!validate(params)) {
        const { path, message } = describe(validate.errors?.[0] ?? { instancePath: "", keyword: "", params: {} });
        throw new LowportError(INVALID_PARAMS, { reason: `params of ${name}: ${path || "they"} ${message}`, path });
      }
      call.record.params = params;
      return run(params, call);
    });
  }

  /** A bug leaks nothing to the peer but the number of the record that has the details. */
  function expected(error: unknown, call: Call): LowportError {
    if (error instanceof LowportError) return error;
    const auditSeq = next_seq();
    const details = error instanceof Error ? (error.stack ?? error.message) : String(error);
    log.error({ auditSeq, details }, "a call failed in a way that it should not");
    call.record.reason = details.split("\n").slice(0, 2).join(" ").slice(0, 500);
    return refusal("EINTERNAL", `the helper failed; an admin finds the details in audit record ${auditSeq}`, {
      auditSeq,
    });
  }

  /** Runs the method and takes its result for the reply. Not the package's own dispatcher: it costs a tenth of a grant. */
  function invoke({ id, method, params = {} }: Request, call: Call): void {
    const run = methods.get(method);
    if (run === undefined)
      throw new LowportError(METHOD_NOT_FOUND, { reason: "there is no such method; `rpc.discover` lists them" });
    call.response = createJSONRPCSuccessResponse(id as Id, run(params, call));
    call.record.decision ??= "allow";
  }

  /** @returns why it is refused, if it is */
  function attempt(element: Element, call: Call): unknown {
    const { record } = call;
    try {
      if ("fault" in element) {
        record.id = element.id;
        if (element !== LONG_LINE.elements[0]) admit(call); // the connection ends with that
        return element.fault;
      }
      const { request } = element;
      record.method = request.method.slice(0, METHOD_LENGTH);
      record.id = request.id;
      admit(call);
      if (request.id === undefined)
        throw new LowportError(INVALID_REQUEST, { reason: "a notification is never executed; send an id" });
      invoke(request, call);
      return undefined;
    } catch (error) {
      return error ?? new Error("undefined was thrown");
    }
  }

  function finish(element: Element, call: Call, started: number, error: unknown): void {
    if (error !== undefined) {
      refuse(call, expected(error, call));
      if ("request" in element && element.request.id === undefined) call.response = undefined;
    }
    call.record.durationUs = Math.round((uptime_ms() - started) * 1000);
    on_end(call);
  }

  return (element, call) => {
    const started = uptime_ms();
    const error = attempt(element, call);
    const closed = settled();
    if (closed === undefined) return finish(element, call, started, error);
    const taken = error instanceof LowportError && error.data.code === "EADDRINUSE";
    return closed.then(() => finish(element, call, started, taken ? attempt(element, call) : error));
  };
}
