/**
 * Accepts connections and answers calls. All that comes in one turn of the event loop is dispatched, then written to the
 * audit log at once, and only then answered: nothing leaves this process that is not recorded.
 */
import { closeSync, readFileSync } from "node:fs";
import type { Logger } from "pino";
import { LowportError, message_of, refusal } from "../shared/errors.js";
import { errno_name, native } from "../shared/native.js";
import { READABLE, unwatch, watch } from "../shared/poll.js";
import { INVALID_REQUEST, LIMITS, MAX_LINE_BYTES, VERSION } from "../shared/protocol.js";
import { type Account, Accounts, take_token } from "./account.js";
import { describe_socket } from "./address.js";
import { type AuditLog, MAX_OWED } from "./audit.js";
import { type Call, error_response, make_dispatcher } from "./calls.js";
import type { Config } from "./config.js";
import { Connection, type ConnectionEvents, type Exchange } from "./connection.js";
import { type Message, read_message } from "./envelope.js";
import { LeaseTable } from "./leases.js";
import { make_handlers, type World } from "./methods.js";
import { read_peer } from "./peer.js";
import type { Peer } from "./policy.js";

/** Connections accepted in one turn, so that a crowd of new ones does not keep the others waiting. */
const ACCEPT_AT_ONCE = 64;
/** Milliseconds until accepting is tried again, and until records that are owed are. */
const ACCEPT_RETRY_MS = 1000;
const RECORD_RETRY_MS = 1000;
/** Milliseconds that replies get to leave when the helper stops. */
const STOP_TIMEOUT_MS = 1000;
/** The reply to a line that is too long. */
const TOO_LONG: Message = {
  batch: false,
  elements: [
    {
      id: undefined,
      fault: new LowportError(INVALID_REQUEST, {
        reason: `a line has at most ${MAX_LINE_BYTES} bytes; the connection is closed`,
      }),
    },
  ],
};

export class Server implements ConnectionEvents {
  readonly #listener: number;
  readonly #audit: AuditLog;
  readonly #log: Logger;
  readonly #world: World;
  readonly #accounts = new Accounts();
  readonly #connections = new Set<Connection>();
  readonly #leases = new LeaseTable((lease, reason) => {
    const what = `${describe_socket(lease)}: ${reason}`;
    this.#record({ event: "lease-end", peer: lease.peer, rule: lease.rule, lease: lease.id, reason: what });
    this.#accept_again();
  });
  readonly #dispatch: ReturnType<typeof make_dispatcher>;
  #count = 0;
  #dispatching = 0;
  #turn: { connection: Connection; exchange: Exchange }[] = [];
  #unanswered = 0;
  #commit_planned = false;
  #accepting = false;
  #stopping = false;
  #failing = false;
  #retry: NodeJS.Timeout | undefined;
  #on_quiet: (() => void) | undefined;

  /** @param listener descriptor of the control socket */
  constructor(listener: number, config: Config, audit: AuditLog, log: Logger) {
    this.#listener = listener;
    this.#audit = audit;
    this.#log = log;
    this.#world = {
      config,
      leases: this.#leases,
      policyLoadedAt: new Date(),
      interface: JSON.parse(
        readFileSync(new URL("../shared/generated/openrpc.json", import.meta.url), "utf8"),
      ) as object,
      connections: () => this.#connections.size,
      audit_seq: () => audit.seq,
      record_now: (call) => this.#record_now(call),
    };
    const admit = (call: Call) => this.#admit(call);
    this.#dispatch = make_dispatcher({
      handlers: make_handlers(this.#world),
      log,
      next_seq: () => audit.nextSeq,
      admit,
    });
  }

  start(): void {
    this.#accept_again();
  }

  in_flight_limit(): number {
    return this.#world.config.limits.requestsInFlight;
  }

  // --- connections

  #accept_again(): void {
    if (this.#accepting || this.#stopping) return;
    this.#accepting = true;
    watch(this.#listener, READABLE, () => this.#accept());
  }

  #accept(): void {
    for (let i = 0; i < ACCEPT_AT_ONCE; i++) {
      const fd = native().acceptUnix(this.#listener);
      if (fd >= 0) this.#welcome(fd);
      else if (["EAGAIN", "ECONNABORTED", "EINTR"].includes(errno_name(fd))) return;
      else {
        // Out of descriptors: they wait in the kernel's queue.
        this.#accepting = false;
        unwatch(this.#listener);
        setTimeout(() => this.#accept_again(), ACCEPT_RETRY_MS).unref();
        this.#log.warn(
          { reason: errno_name(fd), connections: this.#connections.size },
          "cannot accept; tries again soon",
        );
        return;
      }
    }
  }

  #welcome(fd: number): void {
    let peer: Peer;
    try {
      peer = read_peer(fd);
    } catch (error) {
      this.#log.error({ reason: message_of(error) }, "a connection was closed, for its peer is not known");
      closeSync(fd);
      return;
    }
    const account = this.#accounts.of(peer.uid, this.#world.config.limits);
    const number = ++this.#count;
    const why = this.#refuse_connection(account);
    if (why !== undefined) {
      this.#turn_away(fd, { number, peer, account }, why);
      return;
    }
    account.connections++;
    this.#connections.add(new Connection(fd, number, peer, account, this));
    this.#record({ event: "connect", peer, conn: number, decision: "allow" });
  }

  #refuse_connection(account: Account): LowportError | undefined {
    const { limits } = this.#world.config;
    const over = (limit: keyof typeof LIMITS, whose: string) =>
      refusal(
        "EDQUOT",
        `${whose} ${limits[limit]} connections, all that are allowed; close one, or ask an admin to raise ${limit}`,
        { limit, max: limits[limit] },
      );
    if (this.#audit.owed >= MAX_OWED)
      return refusal("EIO", "the audit log cannot be written, and no more can be remembered; an admin frees its disk");
    if (account.connections >= limits.connectionsPerUid) return over("connectionsPerUid", `uid ${account.uid} has`);
    if (this.#connections.size >= limits.connections) return over("connections", "the helper has");
    const retryAfterMs = take_token(account, limits);
    return retryAfterMs > 0
      ? refusal("EAGAIN", `uid ${account.uid} connects too often; wait ${retryAfterMs} ms`, { retryAfterMs })
      : undefined;
  }

  /** Says why and closes. The record of it costs a token, so that turning away cannot be made to fill the disk. */
  #turn_away(
    fd: number,
    { number, peer, account }: { number: number; peer: Peer; account: Account },
    why: LowportError,
  ): void {
    native().send(fd, Buffer.from(`${JSON.stringify(error_response(null, why))}\n`), new Int32Array(0), 0);
    closeSync(fd);
    if (take_token(account, this.#world.config.limits) > 0 || this.#audit.owed >= MAX_OWED) {
      account.turnedAway++;
      return;
    }
    const more = account.turnedAway > 0 ? ` (and ${account.turnedAway} more since the last that was recorded)` : "";
    account.turnedAway = 0;
    this.#record({
      event: "connect",
      peer,
      conn: number,
      decision: "deny",
      code: why.data.code,
      reason: why.data.reason + more,
    });
  }

  on_close(connection: Connection, reason: string): void {
    this.#connections.delete(connection);
    connection.account.connections--;
    this.#record({ event: "disconnect", peer: connection.peer, conn: connection.number, reason });
    this.#leases.leave(connection);
    this.#accept_again();
  }

  // --- calls

  on_line(connection: Connection, line: Buffer | "too long"): void {
    const { batch, elements } = line === "too long" ? TOO_LONG : read_message(line);
    const calls = elements.map((): Call => {
      const { peer, number } = connection;
      return { caller: connection, record: { event: "call", peer, conn: number }, response: undefined };
    });
    const exchange: Exchange = { batch, calls, ready: false };
    connection.add(exchange);
    this.#dispatching++;
    this.#unanswered++;
    void this.#run(elements, connection, exchange);
  }

  /** Runs the elements of a message one after the other. Never rejects, because the dispatcher never does. */
  async #run(elements: Message["elements"], connection: Connection, exchange: Exchange): Promise<void> {
    for (const [i, element] of elements.entries()) {
      const call = exchange.calls[i] as Call;
      await this.#dispatch(element, call);
      if (call.recorded !== true || call.record.decision !== "allow")
        this.#audit.stage(call.record, (error) => (call.lost = error));
    }
    this.#turn.push({ connection, exchange });
    if (--this.#dispatching === 0) this.#commit();
  }

  #admit({ caller }: Call): void {
    if (this.#stopping) throw refusal("ESHUTDOWN", "the helper is stopping; connect again");
    const retryAfterMs = take_token(caller.account, this.#world.config.limits);
    if (retryAfterMs === 0) return;
    (caller as Connection).pause(retryAfterMs);
    throw refusal("EAGAIN", `uid ${caller.account.uid} asks too often; wait ${retryAfterMs} ms`, { retryAfterMs });
  }

  // --- the record

  #record(record: Parameters<AuditLog["stage"]>[0]): void {
    this.#audit.stage(record);
    if (this.#commit_planned) return;
    this.#commit_planned = true;
    queueMicrotask(() => {
      this.#commit_planned = false;
      if (this.#dispatching === 0) this.#commit();
    });
  }

  #record_now(call: Call): void {
    call.record.decision = "allow";
    this.#audit.stage({ ...call.record }, (error) => (call.lost = error));
    try {
      this.#audit.write();
      call.recorded = true;
    } catch (error) {
      throw not_recorded(error as Error);
    }
  }

  #commit(): void {
    const turn = this.#turn;
    this.#turn = [];
    this.#audit.commit((error) => {
      this.#note_failure(error);
      for (const { exchange } of turn.toReversed()) finish(exchange, error);
      for (const { connection } of turn) connection.flush();
      this.#unanswered -= turn.length;
      this.#on_quiet?.();
    });
  }

  /** Says once that the log cannot be written, and goes on trying for what is owed. */
  #note_failure(error: Error | undefined): void {
    if (error !== undefined && !this.#failing)
      this.#log.error({ reason: error.message }, "the audit log cannot be written; calls are refused");
    if (error === undefined && this.#failing) this.#log.info("the audit log can be written again");
    this.#failing = error !== undefined;
    if (error === undefined || this.#stopping) return;
    this.#retry ??= setTimeout(() => {
      this.#retry = undefined;
      if (this.#dispatching === 0) this.#commit();
    }, RECORD_RETRY_MS);
  }

  // --- life

  /** Takes a new policy; sockets that are granted stay granted. */
  reload(config: Config): void {
    this.#world.config = config;
    this.#world.policyLoadedAt = new Date();
  }

  /** Stops accepting, answers what has come, and calls `done` when the replies have left or their time is up. */
  stop(done: () => void): void {
    this.#stopping = true;
    unwatch(this.#listener);
    closeSync(this.#listener);
    for (const connection of [...this.#connections]) connection.read();
    const finish_up = () => {
      clearTimeout(timer);
      this.#on_quiet = undefined;
      for (const connection of [...this.#connections]) connection.close("the helper stops");
      for (const lease of [...this.#leases.all()]) this.#leases.end(lease, "the helper stops");
      done();
    };
    const timer = setTimeout(finish_up, STOP_TIMEOUT_MS);
    this.#on_quiet = () => {
      if (this.#unanswered === 0 && [...this.#connections].every((connection) => connection.idle)) finish_up();
    };
    this.#on_quiet();
  }

  on_idle(): void {
    this.#on_quiet?.();
  }

  /** What the start record says of this helper. */
  describe(): string {
    const { config } = this.#world;
    return `lowport ${VERSION}, pid ${process.pid}, user ${config.user.name}, ${config.policy.rules.length} rules`;
  }
}

function not_recorded(error: Error): LowportError {
  return refusal(
    "EIO",
    `the audit log cannot be written (${error.message}); nothing was granted; an admin frees its disk`,
  );
}

/** Lets an exchange be answered; what could not be recorded is taken back and refused. */
function finish(exchange: Exchange, error: Error | undefined): void {
  for (const call of exchange.calls.toReversed()) {
    const why = call.lost ?? error;
    if (why !== undefined) {
      call.undo?.();
      if (call.response !== undefined) call.response = error_response(call.record.id ?? null, not_recorded(why));
      delete call.lease;
    }
  }
  exchange.ready = true;
}
