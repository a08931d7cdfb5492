/** Accepts connections, as many as the limits allow, and passes what comes on them to the dispatcher. */
import { closeSync } from "node:fs";
import { constants } from "node:os";
import type { Logger } from "pino";
import { uptime_ms } from "../shared/clock.js";
import { type LowportError, message_of, refusal } from "../shared/errors.js";
import type { Line } from "../shared/framing.js";
import { errno_name, native } from "../shared/native.js";
import { is_alone, READABLE, unwatch, watch } from "../shared/poll.js";
import type { Limits } from "../shared/protocol.js";
import { type Account, Accounts, take_tokens } from "./account.js";
import { describe_socket } from "./address.js";
import { MAX_OWED } from "./audit.js";
import { type Call, error_response, make_dispatcher } from "./calls.js";
import type { Config } from "./config.js";
import { Connection, type ConnectionEvents, type Exchange } from "./connection.js";
import { type Element, type Message, read_message } from "./envelope.js";
import type { Kept, LeaseStore } from "./lease-store.js";
import { LeaseTable } from "./leases.js";
import { is_operator, make_handlers, type World } from "./methods.js";
import { MAX_GROUPS, read_peer } from "./peer.js";
import type { Peer } from "./policy.js";
import { type Recorder, Turn } from "./turn.js";

/** Connections accepted in one turn, so that a crowd of new ones does not keep the others waiting, nor the others them. */
const ACCEPT_AT_ONCE = 64;
/** Milliseconds until accepting is tried again after it failed. */
const ACCEPT_RETRY_MS = 1000;
/** Milliseconds between two records of connections of one user that were turned away. */
const TURNED_AWAY_EVERY_MS = 1000;
/** Connections of operators beyond `connections`, so that they can see who has taken all. */
const OPERATOR_RESERVE = 16;
/** Bytes of a line that its first token pays for; each of the further ones costs one more. */
const BYTES_A_TOKEN = 4096;
/** Milliseconds that replies get to leave when the helper stops. */
const STOP_TIMEOUT_MS = 1000;

const { EAGAIN, ECONNABORTED, EINTR } = constants.errno;

export class Server implements ConnectionEvents {
  readonly #listener: number;
  readonly #audit: Recorder;
  readonly #log: Logger;
  readonly #turn: Turn;
  readonly #world: World;
  readonly #accounts = new Accounts();
  readonly #connections = new Set<Connection>();
  readonly leases: LeaseTable;
  readonly #store: LeaseStore | undefined;
  readonly #dispatch: ReturnType<typeof make_dispatcher>;
  #count = 0;
  #accepting = false;
  #stopping = false;
  #on_quiet: (() => void) | undefined;

  /** @param listener descriptor of the control socket. @param store keeps leases over the death of this process */
  constructor(listener: number, config: Config, audit: Recorder, log: Logger, store?: LeaseStore) {
    this.#listener = listener;
    this.#store = store;
    this.leases = new LeaseTable((lease, reason) => {
      const { peer, rule, id } = lease;
      this.#turn.record_event({ event: "lease-end", peer, rule, lease: id, reason: `${describe_socket(lease)}: ${reason}` });
      this.#accept_again();
    }, store);
    this.#audit = audit;
    this.#log = log;
    this.#turn = new Turn(audit, log, () => this.#on_quiet?.());
    this.#world = {
      config,
      leases: this.leases,
      policyLoadedAt: new Date(),
      connections: () => this.#connections.size,
      audit_seq: () => audit.seq,
      record_now: (call) => this.#turn.record_now(call),
    };
    const handlers = make_handlers(this.#world);
    const [admit, next_seq] = [(call: Call) => this.#admit(call), () => audit.nextSeq];
    const on_end = (call: Call) => this.#turn.record_call(call);
    this.#dispatch = make_dispatcher({ handlers, log, next_seq, admit, settled: () => store?.settled(), on_end });
  }

  /** @param kept leases of the helper before, to be held for their owners */
  start(kept: readonly Kept[] = []): void {
    for (const { pid, uid, gid, since, ...terms } of kept) {
      const peer = { pid, uid, gid, groups: [] };
      const account = this.#accounts.of(uid, this.#world.config.limits);
      this.leases.restore({ ...terms, peer, account, since: new Date(since), references: new Map(), timer: undefined });
    }
    this.#accept_again();
  }

  /** For people: what there is to do. */
  get load(): string {
    return `leases: ${this.leases.byId.size}, connections: ${this.#connections.size}`;
  }

  in_flight_limit(): number {
    return this.#world.config.limits.requestsInFlight;
  }

  #accept_again(): void {
    if (this.#accepting || this.#stopping) return;
    this.#accepting = true;
    // To find that there is no other costs as much as to accept one: where nothing else is ready, epoll is asked again.
    watch(this.#listener, READABLE, () => this.#accept(is_alone() ? 1 : ACCEPT_AT_ONCE));
  }

  #accept(most: number): void {
    for (let i = 0; i < most; i++) {
      const fd = native().acceptUnix(this.#listener);
      if (fd >= 0) this.welcome(fd);
      else if (fd === -EAGAIN || fd === -ECONNABORTED || fd === -EINTR) return;
      else return this.#accept_later(fd);
    }
  }

  /** Out of descriptors: they wait in the kernel's queue. */
  #accept_later(error: number): void {
    this.#accepting = false;
    unwatch(this.#listener);
    setTimeout(() => this.#accept_again(), ACCEPT_RETRY_MS).unref();
    this.#log.warn({ reason: errno_name(error) }, "cannot accept; tries again soon");
  }

  /** Takes a connection. */
  welcome(fd: number): void {
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
    const why = this.#refuse_connection(peer, account);
    if (why !== undefined) return this.#turn_away(fd, { number, peer, account }, why);
    account.connections++;
    const connection = new Connection(fd, number, peer, account, this);
    this.#connections.add(connection);
    this.#turn.record_event({ event: "connect", peer, conn: number, decision: "allow" });
    connection.read(); // most ask at once: that is one turn, and one write of the log
  }

  #refuse_connection(peer: Peer, account: Account): LowportError | undefined {
    const { limits } = this.#world.config;
    const over = (limit: keyof Limits, whose: string) => {
      const reason = `${whose} ${limits[limit]} connections, all that are allowed; close one, or ask an admin to raise ${limit}`;
      return refusal("EDQUOT", reason, { limit, max: limits[limit] });
    };
    if (this.#audit.owed >= MAX_OWED)
      return refusal("EIO", "the audit log cannot be written, and no more can be remembered; an admin frees its disk");
    if (peer.groups.length > MAX_GROUPS)
      return refusal("EDQUOT", `uid ${account.uid} is in more than ${MAX_GROUPS} groups`, { limit: "groups", max: MAX_GROUPS });
    if (account.connections >= limits.connectionsPerUid) return over("connectionsPerUid", `uid ${account.uid} has`);
    const reserve = is_operator(this.#world.config, peer) ? OPERATOR_RESERVE : 0;
    if (this.#connections.size >= limits.connections + reserve) return over("connections", "the helper has");
    const retryAfterMs = take_tokens(account, limits);
    if (retryAfterMs === 0) return undefined;
    return refusal("EAGAIN", `uid ${account.uid} connects too often; wait ${retryAfterMs} ms`, { retryAfterMs });
  }

  /** Says why and closes. Recorded once in a while for each user, so that turning away cannot be made to fill the disk. */
  #turn_away(fd: number, { number, peer, account }: { number: number; peer: Peer; account: Account }, why: LowportError): void {
    native().send(fd, Buffer.from(`${JSON.stringify(error_response(null, why))}\n`), new Int32Array(0), 0);
    closeSync(fd);
    const now = uptime_ms();
    if (now - account.turnedAwayAt < TURNED_AWAY_EVERY_MS || this.#audit.owed >= MAX_OWED) return;
    account.turnedAwayAt = now;
    const { code, reason } = why.data;
    this.#turn.record_event({ event: "connect", peer, conn: number, decision: "deny", code, reason });
  }

  on_close(connection: Connection, reason: string): void {
    this.#connections.delete(connection);
    connection.account.connections--;
    this.#turn.record_event({ event: "disconnect", peer: connection.peer, conn: connection.number, reason });
    if (!this.#stopping || this.#store?.keeps !== true) this.leases.leave(connection); // else the next helper has them
    this.#accept_again();
  }

  on_line(connection: Connection, line: Line, bytes: number): void {
    const { batch, elements } = read_message(line);
    const { peer, number: conn, running } = connection;
    const calls = elements.map((): Call => ({ caller: connection, record: { event: "call", peer, conn }, response: undefined }));
    const exchange: Exchange = { connection, batch, calls, ready: false };
    if (bytes > BYTES_A_TOKEN) take_tokens(connection.account, this.#world.config.limits, Math.floor(bytes / BYTES_A_TOKEN));
    connection.add(exchange);
    this.#turn.begin();
    connection.running = running ? this.#run_after(running, elements, exchange) : this.#run(elements, exchange);
  }

  #run_after(before: Promise<void>, elements: Message["elements"], exchange: Exchange, from = 0): Promise<void> {
    return before.then(() => this.#run(elements, exchange, from));
  }

  /** Runs the elements of a message one after the other. @returns a promise if one of them has to wait, which never rejects */
  #run(elements: Message["elements"], exchange: Exchange, from = 0): Promise<void> | undefined {
    for (let i = from; i < elements.length; i++) {
      const call = exchange.calls[i] as Call;
      const waits = this.#dispatch(elements[i] as Element, call);
      if (waits !== undefined) return this.#run_after(waits, elements, exchange, i + 1);
    }
    this.#turn.end(exchange);
    return undefined;
  }

  #admit({ caller }: Call): void {
    if (this.#stopping || !this.#connections.has(caller as Connection))
      throw refusal("ESHUTDOWN", "the helper is stopping; connect again");
    const retryAfterMs = take_tokens(caller.account, this.#world.config.limits);
    if (retryAfterMs > 0)
      throw refusal("EAGAIN", `uid ${caller.account.uid} asks too often; wait ${retryAfterMs} ms`, { retryAfterMs });
  }

  /** Takes a new policy; sockets that are granted stay granted. */
  reload(config: Config): void {
    this.#world.config = config;
    this.#world.policyLoadedAt = new Date();
  }

  /** Stops accepting, answers what has come, and calls `done` when the replies have left or their time is up. */
  stop(done: () => void): void {
    if (this.#stopping) return;
    // Who waits to be let in is answered too; under systemd by the next helper. The rehearsal lets nobody in.
    if (this.#accepting && this.#store?.keeps !== true) this.#accept(ACCEPT_AT_ONCE);
    this.#stopping = true;
    unwatch(this.#listener);
    closeSync(this.#listener);
    for (const connection of [...this.#connections]) connection.read();
    const finish_up = () => {
      clearTimeout(timer);
      this.#on_quiet = undefined;
      if (this.#store?.keeps !== true)
        for (const lease of [...this.leases.byId.values()]) this.leases.end(lease, "the helper stops");
      for (const connection of [...this.#connections]) connection.close("the helper stops");
      done();
    };
    const timer = setTimeout(finish_up, STOP_TIMEOUT_MS);
    this.#on_quiet = () => {
      if (this.#turn.unanswered === 0 && [...this.#connections].every((connection) => connection.idle)) finish_up();
    };
    this.#on_quiet();
  }

  on_idle(): void {
    this.#on_quiet?.();
  }
}
