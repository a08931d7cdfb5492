/** What is given to the library and what comes back. */
import type { Params } from "../shared/methods.js";
import type { LowportError } from "./errors.js";

export interface CallOptions {
  /** Gives up waiting; a socket granted meanwhile is given back. */
  signal?: AbortSignal | undefined;
  /** Milliseconds to wait for the connection and the reply together. Default 10,000. */
  timeout?: number | undefined;
}

export interface ConnectOptions extends CallOptions {
  /** Path of the control socket. Default: LOWPORT_SOCKET, else /run/lowport/lowport.sock. */
  socket?: string | undefined;
}

/** What `bind` takes; see shared/PROTOCOL.md for each. */
export type BindOptions = Params<"bind"> & CallOptions;

/** A socket that the helper has granted. */
export interface BoundSocket {
  readonly lease: string;
  readonly protocol: "tcp" | "udp";
  readonly address: string;
  readonly port: number;
  /** It is the same socket as before, with the connections that queued meanwhile. */
  readonly resumed: boolean;
  /** The descriptor: non-blocking, close-on-exec, listening if TCP. It is the caller's, to use and to close. */
  readonly fd: number;
  /**
   * Gives the lease back: the helper closes its copy, and is asked again where it cannot yet. Does nothing to `fd`. Resolves at
   * once, and never rejects.
   */
  release(): Promise<void>;
}

/** What a Client emits. */
export interface ClientEvents {
  /** The helper went away; the sockets go on serving. */
  disconnect: [LowportError];
  /** Connected again, with all leases that could be had back. */
  reconnect: [];
  /** A lease could not be had back: the socket goes on serving, but is no longer on the helper's list. */
  lost: [BoundSocket, LowportError];
}
