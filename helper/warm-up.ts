/**
 * A rehearsal before the helper says that it is ready, because the first request of a process takes milliseconds longer than the
 * next. A server of its own, which lets nobody have a socket and whose records go nowhere, is asked by this process over a
 * connection to itself, and ends. So nothing is bound, recorded or held against a user. Any user can see the name of the socket
 * that the connection is made by, and connect to it too: nothing is read from others.
 */
import { closeSync, openSync } from "node:fs";
import type { Logger } from "pino";
import { FIRST_PREV } from "../shared/chain.js";
import { native } from "../shared/native.js";
import { READABLE, unwatch, watch } from "../shared/poll.js";
import { LIMITS } from "../shared/protocol.js";
import { AuditLog } from "./audit.js";
import type { Config } from "./config.js";
import { new_id } from "./new-id.js";
import { read_peer } from "./peer.js";
import { make_policy } from "./policy.js";
import { read_rule } from "./rules.js";
import { Server } from "./server.js";

const BIND = '{"jsonrpc":"2.0","id":1,"method":"bind","params":{"protocol":"tcp","port":1}}\n';
const CHECK = BIND.replace("bind", "check");
/** More of them bring the first request less than they take of the start. */
const LINES = [CHECK, BIND, CHECK];

const RULE = { name: "rehearsal", groups: [], protocols: ["tcp" as const], addresses: ["*"], ports: [1], maxSockets: 0 };

/** What may be asked there: this process may have no more than 0 sockets, and others nothing. */
export function rehearsal_of(config: Config): Config {
  const rule = { ...RULE, users: [process.geteuid?.() ?? ""], maxHoldSeconds: 0, reusePort: false, share: false };
  const policy = make_policy([read_rule(rule, () => undefined)]);
  return { ...config, operators: { uids: new Set(), gids: new Set() }, limits: LIMITS, policy };
}

/** Of the connections that wait, the one of this process; others are closed. @returns below 0 if it is not among them */
export function accept_own(listener: number): number {
  for (let fd = native().acceptUnix(listener); ; fd = native().acceptUnix(listener)) {
    if (fd < 0 || read_peer(fd).pid === process.pid) return fd;
    closeSync(fd);
  }
}

/** Where what is recorded there goes. @returns below 0 if there are no descriptors */
function open_nowhere(): number {
  try {
    return openSync("/dev/null", "w");
  } catch {
    return -1;
  }
}

/** Where the kernel refuses (no descriptors), the first request is a slow one. */
export async function warm_up(config: Config, log: Logger): Promise<void> {
  const name = `@lowport-${new_id()}${new_id()}`;
  const listener = native().openUnix(name, 1);
  const peer = listener < 0 ? listener : native().openUnix(name, 0);
  const own = peer < 0 ? peer : accept_own(listener);
  const nowhere = own < 0 ? own : open_nowhere();
  if (nowhere >= 0) {
    const file = { fd: nowhere, identity: "", head: { seq: 0, hash: FIRST_PREV }, torn: "", unfinished: 0 };
    const server = new Server(listener, rehearsal_of(config), new AuditLog("", "write", undefined, file), log);
    server.welcome(own);
    for (const line of LINES) {
      native().send(peer, Buffer.from(line), new Int32Array(0), 0);
      await new Promise<void>((resolve) => watch(peer, READABLE, () => resolve()));
      native().receive(peer, Buffer.alloc(4096));
    }
    unwatch(peer);
    await new Promise<void>((resolve) => server.stop(resolve));
  }
  for (const fd of nowhere >= 0 ? [peer, nowhere] : [listener, peer, own]) if (fd >= 0) closeSync(fd);
}
