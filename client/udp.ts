/** `bindUdp` for dgram sockets: the same ladder as `listen`. */
import cluster from "node:cluster";
import type { Socket, SocketOptions } from "node:dgram";
import { closeSync } from "node:fs";
import { attempt } from "./attempt.js";
import { ask_helper, type Listening, type ListenOptions, lend, take_fitting } from "./listen.js";

/**
 * As for `listen`; without a host all addresses of the socket's family are meant. `ipv6Only` must be what the socket was
 * created with (`createSocket({ type: "udp6", ipv6Only: true })`), for a socket does not tell.
 */
export type UdpOptions = Omit<ListenOptions, "backlog">;

/** A dgram socket has a type; the declarations of Node 20 do not say so. */
type TypedSocket = Socket & { type?: "udp4" | "udp6" };

/**
 * Binds a dgram socket, by the first way that works. It emits "listening" as ever; errors reject and are not emitted.
 * @throws what `socket.bind` gives, or, where the kernel says EACCES, a LowportError with the helper's reason; the signal's
 *   reason
 */
export async function bindUdp(socket: TypedSocket, options: UdpOptions): Promise<Listening> {
  const { port, host, signal, ipv6Only = false, share = cluster.isWorker } = options;
  signal?.throwIfAborted();
  const { type = "udp4" } = socket;
  const all = type === "udp4" ? "0.0.0.0" : "::";
  const adopt = (fd: number) => attempt(socket, () => socket.bind({ fd, exclusive: true }));
  const inherited = await take_fitting(false, options, type === "udp4" ? 4 : 6);
  if (inherited !== undefined) {
    await adopt(inherited);
    return { via: "inherited" };
  }
  const refused = await try_to_bind({ type, ipv6Only }, port, host || all);
  if (refused === undefined || port === 0) {
    await attempt(socket, () => socket.bind({ port, address: host || all }));
    return { via: "direct" };
  }
  const ask = () => ask_helper("udp", { ...options, host: host || all, ipv6Only }, share);
  const lease = await lend(socket, ask, refused);
  await adopt(lease.fd).catch((error: unknown) => {
    closeSync(lease.fd);
    void lease.release();
    throw error;
  });
  return { via: "helper", lease };
}

/** Binds another socket for a moment, because one whose bind has failed cannot take a descriptor. @returns an EACCES */
async function try_to_bind(options: SocketOptions, port: number, address: string) {
  const { createSocket } = await import("node:dgram"); // only here, because it takes time to load
  const probe = createSocket(options);
  try {
    await attempt(probe, () => probe.bind({ port, address, exclusive: true }));
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EACCES" ? (error as NodeJS.ErrnoException) : undefined;
  } finally {
    await new Promise<void>((closed) => probe.close(closed));
  }
}
