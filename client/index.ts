/**
 * lowport: a privileged port for a program without root rights.
 *
 *     import { listen } from "lowport";
 *     await listen(http.createServer(app), { port: 443 });
 */
import { Client } from "./client.js";
import type { BindOptions, BoundSocket, ConnectOptions } from "./types.js";

export type { LeaseEntry } from "../shared/methods.js";
export { Client } from "./client.js";
export { connect } from "./connect.js";
export { LowportError } from "./errors.js";
export { type Listening, type ListenOptions, listen } from "./listen.js";
export type { BindOptions, BoundSocket, CallOptions, ClientEvents, ConnectOptions } from "./types.js";
export { bindUdp, type UdpOptions } from "./udp.js";

/**
 * Asks for a socket over the connection that `bind`, `listen` and `bindUdp` share in this process.
 * @throws LowportError (EACCES, EADDRINUSE, EADDRNOTAVAIL, EDQUOT, EAGAIN, ...), or the signal's reason
 */
export async function bind({ socket, ...options }: BindOptions & ConnectOptions): Promise<BoundSocket> {
  return Client.shared(socket).bind(options);
}
