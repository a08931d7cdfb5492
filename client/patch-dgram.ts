/**
 * dgram sockets: a `bind` that fails because the kernel refused it is not heard of; the helper is asked, and the socket bound
 * again with what it granted, in the way in which Node gives a cluster's shared socket to a worker.
 */
import cluster from "node:cluster";
import dgram from "node:dgram";
import { ask_now, errno_of, explain, type Handle } from "./ask-now.js";
import { before_outcome, is_tried } from "./outcome.js";
import { close_at_disconnect } from "./patch-net.js";

type UdpHandle = Handle & { open(fd: number): number; connect: unknown; constructor: new () => UdpHandle };
/** What Node keeps of a socket. */
interface State {
  readonly handle: UdpHandle;
  readonly ipv6Only?: boolean;
  readonly reusePort?: boolean;
}
type Bind = (this: dgram.Socket, ...args: unknown[]) => dgram.Socket;
type Refused = NodeJS.ErrnoException & { address?: string; port?: number };

function state_of(socket: dgram.Socket): State | undefined {
  const key = Object.getOwnPropertySymbols(socket).find(({ description }) => description === "state symbol");
  return key === undefined ? undefined : (socket as unknown as Record<symbol, State>)[key];
}

/** A handle with the granted socket. @throws LowportError */
function make_handle({ handle, ipv6Only = false, reusePort = false }: State, { address, port = 0 }: Refused, share: boolean) {
  return ask_now({ protocol: "udp", address, port, ipv6Only, reusePort, share }, (fd) => {
    const made = new handle.constructor();
    made.open(fd);
    made.connect = handle.connect; // of the socket's family; Node carries over the rest
    return made;
  }).handle;
}

export function patch_dgram(): void {
  const prototype = dgram.Socket.prototype as unknown as { bind: Bind };
  const { bind } = prototype;
  prototype.bind = function (...args) {
    const [first] = args as [{ port?: unknown; exclusive?: unknown } | null | undefined];
    const state = state_of(this);
    const any_port = !Number(typeof first === "object" ? first?.port : first);
    if (any_port || state === undefined || is_tried(this)) return bind.apply(this, args);
    const shared = cluster.isWorker && !first?.exclusive && state.reusePort !== true;
    const stop = before_outcome(this, (event, error: Refused) => {
      if (event !== "error" || error.code !== "EACCES" || error.syscall !== "bind" || !error.port) return true;
      try {
        const handle = make_handle(state, error, shared);
        if (shared) close_at_disconnect(this);
        bind.call(this, handle);
        return false;
      } catch (refusal) {
        take_code(error, errno_of(refusal));
        explain(error, refusal);
        return true;
      }
    });
    try {
      return bind.apply(this, args);
    } catch (error) {
      stop();
      throw error;
    }
  };
}

/** Makes Node's error say what the helper found where the kernel had not looked. */
function take_code(error: Refused, errno: number): void {
  const { constants } = process.getBuiltinModule("node:os"); // only here, because it takes time to load
  const found = Object.entries(constants.errno).find(([, number]) => number === -errno);
  if (found === undefined || error.code === found[0]) return;
  error.message = error.message.replace(error.code ?? "", found[0]);
  Object.assign(error, { errno, code: found[0] });
}
