/**
 * `listen` for net, tls, http, https and http2 servers. It climbs a ladder: a socket that the process inherited, else an
 * ordinary bind, and only if the kernel refuses that with EACCES the helper. So one code path serves development,
 * containers and hosts without lowport.
 */
import cluster from "node:cluster";
import type { EventEmitter } from "node:events";
import { closeSync } from "node:fs";
import net from "node:net";
import { uptime_ms as now } from "../shared/clock.js";
import { attempt } from "./attempt.js";
import { Client, DEFAULT_TIMEOUT_MS } from "./client.js";
import { LowportError } from "./errors.js";
import { inherited_count, take_inherited } from "./inherited.js";
import { EACCES } from "./outcome.js";
import { sleep } from "./time-limit.js";
import type { BindOptions, BoundSocket, CallOptions } from "./types.js";

export interface ListenOptions extends CallOptions {
  port: number;
  /** IP address or host name. Default: all addresses, IPv6 and IPv4. */
  host?: string | undefined;
  /** Connections that wait to be accepted. Default 511. */
  backlog?: number | undefined;
  /** IPv6 alone. Default false. */
  ipv6Only?: boolean | undefined;
  /** Seconds that the helper keeps the listener after this process has gone, for its next one. Default 0. */
  hold?: number | undefined;
  /** A name for people, shown by `lowport list`. */
  label?: string | undefined;
  /** Takes part in a socket that this user has already. Default: true in a cluster worker, else false. */
  share?: boolean | undefined;
  /** Path of the helper's control socket. */
  socket?: string | undefined;
}

/** A refusal of the kernel's as Node tells it, as far as it is passed on. */
type Refused = NodeJS.ErrnoException & { address?: string; port?: number };

/** What Node makes a server's handle with. It is not documented: without it all works as well, and takes longer. */
const { _createServerHandle: create_handle } = net as unknown as {
  _createServerHandle?: (address?: string, port?: number, family?: number, fd?: number) => { close(): void } | number;
};
/** Then that asks the helper itself (register.ts). */
const REGISTERED = Symbol.for("lowport.register");

/** How it came to listen. */
export interface Listening {
  /** Which rung of the ladder held. */
  readonly via: "inherited" | "direct" | "helper";
  /** What the helper granted, if it did. The lease is released when the server closes. */
  readonly lease?: BoundSocket;
}

/** Leaves out members that are undefined, which the protocol does not know. */
function defined<T extends object>(members: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as never;
}

/** The helper's answer to a bind that the kernel refused, in the place of the kernel's. */
export function explain_refusal(refused: NodeJS.ErrnoException, error: unknown): Error {
  if (!(error instanceof LowportError)) return error as Error;
  // A helper that is not there does not change what happened: the bind was refused.
  const code = error.syscall === "connect" && !/^E[MN]FILE$/.test(error.code) ? "EACCES" : error.code;
  const kernel = refused.message.replace(/^\w+ E\w+:? /, "");
  const reason = code === "EACCES" ? `${kernel}; ${error.reason}` : error.reason;
  const { limit, max, retryAfterMs } = error;
  const explained = new LowportError(code, refused.syscall ?? "listen", reason, {
    limit,
    max,
    retryAfterMs,
    cause: error,
  });
  const { address, port } = refused as Refused;
  return Object.assign(explained, { address, port });
}

async function resolve(host: string | undefined): Promise<string | undefined> {
  if (!host) return undefined; // "" is Node's word for all addresses too
  if (net.isIP(host) !== 0) return host;
  const { lookup } = await import("node:dns/promises"); // only here, because it takes time to load
  return (await lookup(host)).address;
}

/** Takes a socket that was inherited and is what is asked for. @returns its descriptor */
export async function take_fitting(stream: boolean, { port, host, ipv6Only }: ListenOptions, family?: 4 | 6) {
  return inherited_count() === 0 ? undefined : take_inherited({ stream, port, address: await resolve(host), ipv6Only, family });
}

/** Asks the helper, and again where the user has asked too often; without a host for all addresses: IPv6 and IPv4 together, or IPv4 alone on a host without IPv6. */
export async function ask_helper(protocol: "tcp" | "udp", options: ListenOptions, share: boolean): Promise<BoundSocket> {
  const { host, socket, signal, timeout, port, backlog, ipv6Only, hold, label } = options;
  const address = await resolve(host);
  const give_up = now() + (timeout ?? DEFAULT_TIMEOUT_MS);
  const ask = async (at: string | undefined): Promise<BoundSocket> => {
    // 0 is Node's word for the least.
    const queue = backlog === undefined ? undefined : Math.max(1, backlog);
    const wanted = { protocol, port, backlog: queue, ipv6Only, hold, label, share, address: at, signal, timeout };
    try {
      return await Client.shared(socket).bind(wanted as BindOptions); // what is undefined is not sent
    } catch (error) {
      const { code, retryAfterMs = 0 } = error as LowportError;
      if (code !== "EAGAIN" || now() + retryAfterMs > give_up) throw error;
      await sleep(retryAfterMs); // the user asks too often; it is this one's turn then
      signal?.throwIfAborted();
      return ask(at);
    }
  };
  try {
    return await ask(address);
  } catch (error) {
    if (address !== undefined || (error as LowportError).code !== "EADDRNOTAVAIL") throw error;
    return ask("0.0.0.0");
  }
}

/**
 * Listens, by the first way that works. The server emits "listening" as ever; errors reject and are not emitted.
 * @throws what `server.listen` gives (EADDRINUSE, ...), or, where the kernel says EACCES, a LowportError with the helper's
 *   reason; the signal's reason
 */
export async function listen(server: net.Server, options: ListenOptions): Promise<Listening> {
  const { backlog, signal, share = cluster.isWorker } = options;
  signal?.throwIfAborted();
  const inherited = inherited_count() === 0 ? undefined : await take_fitting(true, options);
  if (inherited !== undefined) {
    await adopt(server, inherited, backlog);
    return { via: "inherited" };
  }
  const refused = foresee_refusal(server, options) ?? (await listen_directly(server, options));
  if (refused === undefined) return { via: "direct" };
  const lease = await lend(server, () => ask_helper("tcp", options, share), refused);
  try {
    await adopt(server, lease.fd, backlog);
  } catch (error) {
    void lease.release();
    throw error;
  }
  return { via: "helper", lease };
}

/** @returns what the kernel has refused, if it did. @throws what else went wrong */
async function listen_directly(
  server: net.Server,
  { port, host, backlog, ipv6Only }: ListenOptions,
): Promise<Refused | undefined> {
  try {
    await attempt(server, () => server.listen(defined({ port, host, backlog, ipv6Only })));
    return undefined;
  } catch (error) {
    if ((error as Refused).code !== "EACCES" || port === 0) throw error;
    return error as Refused;
  }
}

/**
 * Tries the bind alone, because Node's way to an error takes three times as long as all that it tries.
 * @returns what Node would say; undefined where it is Node's to try
 */
function foresee_refusal(server: net.Server, { port, host }: ListenOptions): Refused | undefined {
  const family = host ? net.isIP(host) : 6;
  const privileged = Number.isInteger(port) && port > 0 && port < 1024;
  const own = server.listening || server.listen !== net.Server.prototype.listen || REGISTERED in globalThis;
  if (!privileged || family === 0 || own || create_handle === undefined || cluster.isWorker) return undefined;
  const handle = create_handle(host || "::", port, family);
  if (typeof handle !== "number") handle.close();
  if (handle !== -EACCES) return undefined;
  const address = host || "0.0.0.0";
  const message = `listen EACCES: permission denied ${address}:${port}`;
  return { name: "Error", code: "EACCES", syscall: "listen", address, port, message };
}

/**
 * Asks the helper on behalf of something that can be closed: as soon as its `close` is called the lease is released, not only
 * when its last connection has ended, because the helper's copy of a listener takes connections until then.
 */
export async function lend(
  closable: EventEmitter & { close: (...args: never[]) => unknown },
  ask: () => Promise<BoundSocket>,
  refused: NodeJS.ErrnoException,
): Promise<BoundSocket> {
  const own = Object.getOwnPropertyDescriptor(closable, "close");
  const { close } = closable;
  let lease: BoundSocket | undefined;
  let closed = false;
  const restore = () => {
    closable.off("close", give_back);
    if (own === undefined) Reflect.deleteProperty(closable, "close");
    else Object.defineProperty(closable, "close", own);
  };
  const give_back = () => {
    closed = true;
    restore();
    void lease?.release();
  };
  closable.close = (...args) => {
    give_back();
    return close.apply(closable, args);
  };
  closable.once("close", give_back);
  try {
    lease = await ask();
  } catch (error) {
    restore();
    throw explain_refusal(refused, error);
  }
  if (!closed) return lease;
  void lease.release();
  closeSync(lease.fd);
  throw new LowportError("ECANCELED", "listen", "it was closed before it listened");
}

/** Serves on a listening descriptor, which is the server's from then on. */
async function adopt(server: net.Server, fd: number, backlog = 511): Promise<void> {
  // As a handle and not as { fd }: in a cluster worker the latter would send the bare number to the primary.
  const made = create_handle?.(undefined, undefined, undefined, fd);
  const carrier = typeof made === "object" ? made : carry(fd);
  try {
    await attempt(server, () => server.listen(carrier, backlog));
  } catch (error) {
    if (carrier instanceof net.Socket) carrier.destroy();
    else carrier.close();
    throw error;
  }
}

/** The documented way to a handle. */
function carry(fd: number): net.Socket {
  const unused = { readable: false, writable: false, manualStart: true };
  return new net.Socket({ fd, ...unused });
}
