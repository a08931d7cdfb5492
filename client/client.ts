/**
 * One connection to the helper, which is the lifeline of all sockets that were granted over it. When the helper goes away
 * the sockets go on serving; the client connects again by itself and asks for the same leases back.
 */
import { EventEmitter } from "node:events";
import { closeSync } from "node:fs";
import { uptime_ms as now } from "../shared/clock.js";
import type { LeaseEntry, MethodName, Params, Result } from "../shared/methods.js";
import { errno_name, native } from "../shared/native.js";
import { DEFAULT_SOCKET } from "../shared/protocol.js";
import { await_replies, Channel, require_addon } from "./channel.js";
import { block } from "./clock.js";
import { error_from_reply, LowportError, not_answered, unreachable } from "./errors.js";
import { is_reply, type Reply, type Waiting } from "./reply.js";
import { PASSING, type Returned, Returns } from "./returns.js";
import { Attempts, sleep, time_limit } from "./time-limit.js";
import type { BindOptions, BoundSocket, CallOptions, ClientEvents } from "./types.js";

/** Milliseconds until an answer is given up. */
export const DEFAULT_TIMEOUT_MS = 10_000;
const UNKNOWN_SOCKET = "the helper no longer knows this socket; if it was not revoked, it serves on";
/** Milliseconds until connecting is tried again while the helper's queue is full. */
const QUEUE_FULL_RETRY_MS = 20;

const default_path = () => process.env["LOWPORT_SOCKET"] || DEFAULT_SOCKET;
const clients = new Map<string, Client>();

export class Client extends EventEmitter<ClientEvents> {
  /** Path of the control socket. */
  readonly path: string;
  readonly #waiting = new Map<number, Waiting>();
  readonly #leases = new Map<BoundSocket, Params<"bind">>();
  /** Leases of a connection that is gone, to be asked for again. */
  readonly #to_resume = new Set<BoundSocket>();
  readonly #returns = new Returns((returned) => this.#send_release(returned));
  #channel: Channel | undefined;
  #connecting: Promise<void> | undefined;
  #fatal: LowportError | undefined;
  readonly #attempts = new Attempts(() => this.#reconnect());
  #ids = 0;
  #closed = false;

  /** The one that `bind`, `listen` and `bindUdp` use: one for each control socket in a process or worker thread. */
  static shared(path: string = default_path()): Client {
    const client = clients.get(path) ?? new Client(path);
    clients.set(path, client);
    return client;
  }

  constructor(path: string = default_path()) {
    super();
    this.path = path;
  }

  /** Connects, unless it is connected. @throws LowportError that says how the helper can be reached */
  async connect(deadline = now() + DEFAULT_TIMEOUT_MS): Promise<void> {
    const try_until = async () => {
      while (!this.#open(deadline)) await sleep(QUEUE_FULL_RETRY_MS);
    };
    this.#connecting ??= try_until().finally(() => (this.#connecting = undefined));
    return this.#connecting;
  }

  /** @returns false while the helper's queue is full, until the deadline */
  #open(deadline: number): boolean {
    if (this.#closed) throw new LowportError("ECONNABORTED", "connect", "this client was closed; make another");
    if (this.#channel !== undefined) return true;
    const fd = native().openUnix(this.path, 0);
    if (fd < 0 && errno_name(fd) === "EAGAIN" && now() < deadline) return false;
    if (fd < 0) throw unreachable(this.path, errno_name(fd));
    this.#fatal = undefined;
    this.#channel = new Channel(fd, {
      on_message: (message, take_fds) => {
        if (is_reply(message)) this.#on_message(message, take_fds);
        else this.#channel?.close(new LowportError("EPROTO", "read", "the lowport helper sent what is no reply"));
      },
      on_close: (error) => this.#on_close(this.#fatal ?? error),
    });
    return true;
  }

  #on_message(reply: Reply, take_fds: (count: number) => number[]): void {
    const fds = take_fds(reply.result?.fds ?? 0);
    const waiting = typeof reply.id === "number" ? this.#waiting.get(reply.id) : undefined;
    if (waiting === undefined) for (const fd of fds) closeSync(fd);
    else {
      this.#waiting.delete(reply.id as number);
      if (Object.assign(waiting, { fds, reply }).abandoned) this.#give_back(waiting);
      else waiting.end?.();
    }
    if (reply.id === null && reply.error !== undefined) this.#fatal = error_from_reply("connect", reply.error);
  }

  /** Nobody takes what has come. */
  #give_back({ method, fds, reply, returned }: Waiting): void {
    for (const fd of fds) closeSync(fd);
    const { result, error } = reply ?? {};
    if (method === "bind" && result?.lease !== undefined) this.#returns.give(result as Returned);
    if (returned !== undefined) this.#returns.answered(returned, error && error_from_reply(method, error));
  }

  #on_close(error: LowportError): void {
    this.#channel = undefined;
    this.#returns.on_close();
    this.#fatal ??= error;
    for (const { end } of this.#waiting.values()) end?.(this.#fatal);
    this.#waiting.clear();
    if (this.#closed) return;
    this.emit("disconnect", error);
    for (const socket of this.#leases.keys()) this.#to_resume.add(socket);
    if (this.#leases.size > 0 || this.#returns.any) this.#attempts.start();
  }

  /** @throws LowportError if the connection is closed */
  #send(method: MethodName, params: object, waiting: Waiting): void {
    if (this.#channel === undefined) throw this.#fatal ?? unreachable(this.path, "ECONNRESET");
    const id = ++this.#ids;
    this.#waiting.set(id, waiting);
    this.#channel.send({ jsonrpc: "2.0", id, method, params });
  }

  /** Does not keep the process alive. @returns false if there is no connection */
  #send_release(returned: Returned): boolean {
    if (this.#channel === undefined) return false;
    this.#send("release", { lease: returned.lease }, { method: "release", abandoned: true, fds: [], returned });
    return true;
  }

  /** Calls a method of the helper. @throws LowportError, or the signal's reason */
  async call<M extends MethodName>(method: M, params: Params<M>, options: CallOptions = {}): Promise<Result<M>> {
    const { result, fds } = await this.#call(method, params, options);
    for (const fd of fds) closeSync(fd); // only `bind` grants any
    return result;
  }

  async #call<M extends MethodName>(method: M, params: Params<M>, options: CallOptions) {
    const { signal, timeout = DEFAULT_TIMEOUT_MS } = options;
    if (signal?.aborted === true) throw signal.reason;
    const waiting: Waiting = { method, abandoned: false, fds: [] };
    let clear = () => undefined as void;
    let kept_alive = false;
    try {
      require_addon();
      await_replies(1);
      kept_alive = true;
      await new Promise<void>((resolve, reject) => {
        waiting.end = (error) => (error === undefined ? resolve() : reject(error));
        clear = time_limit({ signal, timeout }, () => not_answered(this.path, method, timeout), reject);
        const send = () => waiting.abandoned || this.#send(method, params, waiting);
        const deadline = now() + timeout;
        if (this.#open(deadline)) send();
        else this.connect(deadline).then(send).catch(reject);
      });
      if (waiting.reply?.error !== undefined) throw error_from_reply(method, waiting.reply.error);
      return { result: waiting.reply?.result as Result<M>, fds: waiting.fds };
    } catch (error) {
      waiting.abandoned = true; // stays in #waiting until the reply comes, if it was sent
      this.#give_back(waiting); // it may have come in the very moment that it was given up
      throw error;
    } finally {
      clear();
      if (kept_alive) await_replies(-1);
    }
  }

  /** Asks for a socket. @throws LowportError (EACCES, EADDRINUSE, EDQUOT, ...), or the signal's reason */
  async bind({ signal, timeout, ...params }: BindOptions): Promise<BoundSocket> {
    this.#returns.before(params);
    const { result, fds } = await this.#call("bind", params, { signal, timeout });
    return this.#take(params, result, fds);
  }

  /** As `bind`, but blocks this thread until the helper has answered, for a caller that must answer at once itself. */
  bind_now({ timeout = DEFAULT_TIMEOUT_MS, ...params }: Omit<BindOptions, "signal">): BoundSocket {
    require_addon();
    const deadline = now() + timeout;
    while (!this.#open(deadline)) block(QUEUE_FULL_RETRY_MS);
    this.#returns.before(params);
    const waiting: Waiting = { method: "bind", abandoned: false, fds: [] };
    this.#send("bind", params, waiting);
    for (let left = timeout; waiting.reply === undefined && this.#channel !== undefined && left > 0; ) {
      this.#channel.turn(left);
      left = deadline - now();
    }
    const { reply, fds } = waiting;
    waiting.abandoned = reply === undefined && this.#channel !== undefined;
    if (waiting.abandoned) throw not_answered(this.path, "bind", timeout);
    if (reply === undefined) throw this.#fatal ?? unreachable(this.path, "ECONNRESET");
    if (reply.error !== undefined) throw error_from_reply("bind", reply.error);
    return this.#take(params, reply.result as Result<"bind">, fds);
  }

  #take(params: Params<"bind">, result: Result<"bind">, [fd, ...more]: number[]): BoundSocket {
    for (const other of more) closeSync(other);
    if (fd === undefined) {
      this.#returns.give(result);
      throw new LowportError("EPROTO", "bind", "the lowport helper granted a socket and sent none");
    }
    const { lease, protocol, address, port, resumed } = result;
    const socket: BoundSocket = { lease, protocol, address, port, resumed, fd, release: () => this.#release(socket) };
    this.#leases.set(socket, params);
    return socket;
  }

  async #release(socket: BoundSocket): Promise<void> {
    if (this.#leases.delete(socket)) this.#returns.give(socket);
  }

  /** The caller's leases; for an operator those of all users. */
  async list(options?: CallOptions): Promise<LeaseEntry[]> {
    return (await this.call("list", {}, options)).leases;
  }

  /** Closes the connection: all its leases are held for their `hold` seconds, or end. */
  close(): void {
    this.#closed = true;
    this.#attempts.stop();
    this.#leases.clear();
    this.#channel?.close(new LowportError("ECONNABORTED", "close", "this client was closed"));
  }

  async #reconnect(): Promise<void> {
    if (this.#closed) return;
    await this.connect();
    for (const socket of this.#to_resume) {
      await this.#resume(socket);
      this.#to_resume.delete(socket);
    }
    if (this.#returns.any) this.#returns.after_reconnect(await this.list());
    if (!this.#closed) this.emit("reconnect");
  }

  /** @throws what may be over at the next attempt */
  async #resume(socket: BoundSocket): Promise<void> {
    const params = this.#leases.get(socket);
    if (params === undefined) return;
    try {
      const { result, fds } = await this.#call("bind", params, {});
      for (const fd of fds) closeSync(fd); // the program has it
      // Another socket than the program's, which was revoked perhaps, would take connections that nobody accepts.
      const other = result.lease !== socket.lease;
      if (other || !this.#leases.has(socket)) this.#returns.give(result);
      if (other) throw new LowportError("EADDRINUSE", "bind", UNKNOWN_SOCKET);
    } catch (error) {
      if (this.#channel === undefined || PASSING.has((error as LowportError).code)) throw error;
      this.#leases.delete(socket);
      this.emit("lost", socket, error as LowportError);
    }
  }
}
