/**
 * What happens in one turn of the event loop is written to the audit log at once, and only then answered: nothing leaves
 * this process that is not recorded. What could not be recorded is taken back, in reverse order, and refused with EIO.
 */
import type { Logger } from "pino";
import { type LowportError, refusal } from "../shared/errors.js";
import type { AuditLog, AuditRecord, Failure } from "./audit.js";
import { type Call, error_response } from "./calls.js";
import type { Exchange } from "./connection.js";

/** Milliseconds until records that are owed are tried again. */
const RETRY_MS = 1000;

/** What is asked of the audit log. */
export type Recorder = Pick<AuditLog, "stage" | "write" | "commit" | "owed" | "seq" | "nextSeq">;

export class Turn {
  readonly #audit: Recorder;
  readonly #log: Logger;
  readonly #on_answered: () => void;
  #answered: Exchange[] = [];
  #unanswered = 0;
  #planned = false;
  #failing = false;
  #retry: NodeJS.Timeout | undefined;

  /** @param on_answered called after replies have been handed to their connections */
  constructor(audit: Recorder, log: Logger, on_answered: () => void) {
    this.#audit = audit;
    this.#log = log;
    this.#on_answered = on_answered;
  }

  /** Exchanges that have begun and are not answered. */
  get unanswered(): number {
    return this.#unanswered;
  }

  /** An exchange has begun. */
  begin(): void {
    this.#unanswered++;
  }

  /** An exchange has ended: all its calls have a response and a record. */
  end(exchange: Exchange): void {
    this.#answered.push(exchange);
    this.#commit_soon();
  }

  /** Stages the record of a call, unless it is written already; if its effect failed after that, there is a second one. */
  record_call(call: Call): void {
    if (call.recorded === true && call.record.decision === "allow") return;
    if (call.recorded === true) call.record.decision = "error";
    this.#audit.stage(call.record, call);
  }

  /** Writes a call's record before its effect, which cannot be taken back. @throws EIO */
  record_now(call: Call): void {
    call.record.decision = "allow";
    this.#audit.stage({ ...call.record }, call);
    try {
      this.#audit.write();
    } catch (error) {
      throw not_recorded(error as Error);
    }
  }

  /** Records what has happened. */
  record_event(record: AuditRecord): void {
    this.#audit.stage(record);
    this.#commit_soon();
  }

  /** At the end of the turn, so that all of it is one write; queueMicrotask(), which says the same, takes four times as long. */
  #commit_soon(): void {
    if (this.#planned) return;
    this.#planned = true;
    void Promise.resolve().then(this.#commit);
  }

  readonly #commit = (): void => {
    this.#planned = false;
    const answered = this.#answered;
    this.#answered = [];
    const something = this.#audit.owed > 0;
    this.#audit.commit((failed) => {
      if (something) this.#note_failure(failed?.error);
      for (let i = answered.length - 1; i >= 0; i--) this.#finish(answered[i] as Exchange, failed);
      for (const { connection } of answered) connection.flush();
      this.#unanswered -= answered.length;
      this.#on_answered();
    });
  };

  /** Lets an exchange be answered; what could not be recorded is taken back and refused. */
  #finish(exchange: Exchange, failed: Failure | undefined): void {
    for (let i = exchange.calls.length - 1; i >= 0; i--) {
      const call = exchange.calls[i] as Call;
      const unsynced = failed?.written === true ? failed.error : undefined;
      const why = call.lost ?? (call.recorded === true ? unsynced : new Error("it is not recorded"));
      if (why === undefined) continue;
      call.undo?.();
      if (call.response !== undefined) call.response = error_response(call.record.id ?? null, not_recorded(why));
      delete call.lease;
      // What stands in the log, if perhaps not on the disk, was not done after all: that must stand there too.
      const reason = `answered with EIO: ${why.message}`;
      if (call.recorded === true) this.record_event({ ...call.record, decision: "error", code: "EIO", reason });
    }
    exchange.ready = true;
  }

  /** Says once that the log cannot be written, and goes on trying for what is owed. */
  #note_failure(error: Error | undefined): void {
    if (error !== undefined && !this.#failing)
      this.#log.error({ reason: error.message }, "the audit log cannot be written; calls are refused");
    if (error === undefined && this.#failing) this.#log.info("the audit log can be written again");
    this.#failing = error !== undefined;
    if (error === undefined) return;
    if (this.#retry === undefined)
      this.#retry = setTimeout(() => {
        this.#retry = undefined;
        this.#commit();
      }, RETRY_MS).unref();
  }
}

function not_recorded(error: Error): LowportError {
  return refusal("EIO", `the audit log cannot be written (${error.message}); nothing was granted; an admin frees its disk`);
}
