/** The only file that binds sockets: the one thing the helper keeps a capability for. */
import { closeSync } from "node:fs";
import { refusal } from "../shared/errors.js";
import { errno_name, native } from "../shared/native.js";
import { describe_socket } from "./address.js";
import type { Wanted } from "./policy.js";

/** What is asked of the kernel. */
export interface Binding extends Wanted {
  /** listen(2); TCP. */
  readonly backlog: number;
  readonly reusePort: boolean;
}

const NOT_HERE = new Set(["EADDRNOTAVAIL", "EAFNOSUPPORT", "EINVAL", "ENODEV"]);
const EXHAUSTED = new Set(["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]);

const bind = (binding: Binding, reusePort: boolean, backlog: number) =>
  native().bindSocket(binding.protocol === "tcp", binding.address, binding.port, binding.ipv6Only, reusePort, backlog);

/**
 * Binds, and listens if TCP, in one call, so that no other bind can slip between.
 * @param first with reusePort: whether no socket of the same user is known there. The kernel lets sockets of one *creator*
 *   share a port, and the creator of all is the helper: one that it no longer knows of (from before a restart) could be
 *   another user's, also one that does not listen now. So the port must be free of any first (and of connections in
 *   TIME_WAIT, for a minute).
 * @returns the descriptor. @throws a refusal by the kernel's reason
 */
export function bind_socket(binding: Binding, first: boolean): number {
  let result = 0;
  if (binding.reusePort && first) {
    result = bind(binding, false, 0);
    if (result >= 0) closeSync(result);
  }
  if (result >= 0) result = bind(binding, binding.reusePort, binding.backlog);
  if (result >= 0) return result;
  const what = describe_socket(binding);
  const name = errno_name(result);
  const ended = binding.reusePort ? " (or by connections that ended within the last minute)" : "";
  if (name === "EADDRINUSE")
    throw refusal(
      name,
      `${what} is taken by another program or user${ended}; \`ss -lnp\` shows which; stop it or take another port`,
    );
  if (NOT_HERE.has(name))
    throw refusal("EADDRNOTAVAIL", `${what}: no address of this host (${name}); take one that \`ip address\` lists`);
  if (EXHAUSTED.has(name))
    throw refusal(
      "EMFILE",
      `${what}: the helper has no descriptors or memory left (${name}); nothing was granted; raise its limit`,
    );
  throw new Error(`${what}: bind failed with ${name}`);
}
