/**
 * net servers, and so http, https, http2 and tls: where Node binds for one, and the kernel refuses, the helper is asked.
 * Node has two places that bind. `_listen2` of a server is called when all is settled (host name, port, options); it binds
 * unless the server has a handle by then, and a handle made here by Node's own function is what it would have made itself.
 * `net._createServerHandle` is what a cluster's primary calls for sockets that its workers share.
 * A cluster worker asks its primary. If that was refused (it runs without this preload, or may not have the port), the
 * worker asks the helper itself, and shares the socket with the other workers.
 */
import cluster from "node:cluster";
import net from "node:net";
import { ask_now, errno_of, explain_next_error, type Handle, REFUSED, type Wanted } from "./ask-now.js";
import { is_tried } from "./outcome.js";

/** Flags of libuv's uv_tcp_bind. */
const IPV6_ONLY = 1;
const REUSE_PORT = 2;

type Address = string | null | undefined;
type Create = (address?: Address, port?: number | null, family?: number | null, fd?: number, flags?: number) => Handle | number;
type Server = net.Server & { _handle: Handle | null };
type Listen = (
  this: Server,
  address: Address,
  port: number | null,
  family: number | null,
  backlog?: number,
  fd?: number | null,
  flags?: number,
) => void;
interface Query {
  readonly address: Address;
  readonly port: number | null;
  readonly flags?: number;
}
type Done = (errno: number, handle: Handle | null) => void;
type GetServer = (server: net.Server, query: Query, done: Done) => void;

const internals = net as unknown as { _createServerHandle: Create };
const prototype = net.Server.prototype as unknown as { _listen2: Listen };
const workers = cluster as unknown as { _getServer: GetServer };
const create = internals._createServerHandle;

/** @throws LowportError */
function ask(address: Address, port: number, flags = 0, share = false) {
  const ipv6Only = (flags & IPV6_ONLY) !== 0;
  const reusePort = (flags & REUSE_PORT) !== 0;
  const wanted: Wanted = { protocol: "tcp", address: address ?? undefined, port, ipv6Only, reusePort, share };
  return ask_now(wanted, (fd) => create(undefined, undefined, undefined, fd) as Handle);
}

/** A handle that cannot listen, so that Node makes the error, and everything around it, itself. */
const refusing = (errno: number) => ({ listen: () => errno, close: () => undefined });

/** @returns the handle for a server, or undefined if it is Node's to fail; and the address for its error or its key */
function make_handle(server: Server, address: Address, port: number, family: number | null, flags?: number) {
  const at: [Address, number | null] = address ? [address, family] : ["::", 6];
  let handle = create(at[0], port, at[1], undefined, flags);
  if (!address && typeof handle === "number") {
    at.splice(0, 2, "0.0.0.0", 4);
    handle = create("0.0.0.0", port, 4, undefined, flags);
  }
  if (typeof handle !== "number") return { handle, at };
  if (handle !== REFUSED) return undefined;
  try {
    const granted = ask(address, port, flags);
    const { address: bound } = granted.lease;
    return { handle: granted.handle, at: address ? at : ([bound, bound.includes(":") ? 6 : 4] as const) };
  } catch (error) {
    explain_next_error(server, error);
    const errno = errno_of(error);
    return { handle: refusing(errno), at: address || errno === REFUSED ? at : (["::", 6] as const) };
  }
}

function patch_worker(): void {
  process.once("disconnect", () => {
    for (const server of unknown_to_cluster) server.close();
  });
  const get_server = workers._getServer;
  workers._getServer = (server, query, done) =>
    get_server.call(cluster, server, query, (errno, shared) => {
      const { address, port, flags } = query;
      if (errno !== REFUSED || !port || port < 0 || !(server instanceof net.Server) || is_tried(server))
        return done(errno, shared);
      let handle: Handle;
      try {
        ({ handle } = ask(address, port, flags, true));
      } catch (error) {
        explain_next_error(server, error);
        return done(errno_of(error), null);
      }
      close_at_disconnect(server);
      done(0, handle);
    });
}

interface Closable {
  close(): unknown;
  once(event: "close", call: () => void): unknown;
}
const unknown_to_cluster = new Set<Closable>();

/** A worker that leaves its cluster closes what it listens on; of this socket the cluster does not know. */
export function close_at_disconnect(server: Closable): void {
  unknown_to_cluster.add(server);
  server.once("close", () => unknown_to_cluster.delete(server));
}

export function patch_net(): void {
  const { _listen2 } = prototype;
  internals._createServerHandle = (address, port, family, fd, flags) => {
    const handle = create(address, port, family, fd, flags);
    if (handle !== REFUSED || !port || port < 0) return handle;
    try {
      return ask(address, port, flags).handle;
    } catch (error) {
      return errno_of(error);
    }
  };
  prototype._listen2 = function (address, port, family, backlog, fd, flags) {
    const binds = !this._handle && typeof fd !== "number" && port !== null && port > 0 && !is_tried(this);
    const made = binds ? make_handle(this, address, port, family, flags) : undefined;
    if (made === undefined) return _listen2.call(this, address, port, family, backlog, fd, flags);
    this._handle = made.handle;
    return _listen2.call(this, made.at[0], port, made.at[1], backlog, fd, flags);
  };
  if (cluster.isWorker) patch_worker();
}
