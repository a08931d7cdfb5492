/**
 * A rehearsal before the helper says that it is ready, because the first request of a process takes milliseconds longer than the
 * next. A server of its own, whose policy allows nobody anything and whose records go nowhere, is asked by this process over a
 * connection to itself, and ends. So nothing is bound, recorded or held against a user. Any user can see the name of the socket
 * that the connection is made by, and connect to it too: nothing is read from others.
 */
import { closeSync } from "node:fs";
import type { Logger } from "pino";
import { seal } from "../shared/chain.js";
import { native } from "../shared/native.js";
import { READABLE, unwatch, watch } from "../shared/poll.js";
import { LIMITS } from "../shared/protocol.js";
import type { Config } from "./config.js";
import { new_id } from "./leases.js";
import { read_peer } from "./peer.js";
import { make_policy } from "./policy.js";
import { Server } from "./server.js";

const BIND = '{"jsonrpc":"2.0","id":1,"method":"bind","params":{"protocol":"tcp","port":1}}\n';
const CHECK = BIND.replace("bind", "check");

/** An audit log that keeps nothing. */
const NOWHERE: ConstructorParameters<typeof Server>[2] = {
  owed: 0,
  seq: 0,
  nextSeq: 1,
  stage: (record, fate) => {
    seal(JSON.stringify(record));
    if (fate !== undefined) fate.recorded = true;
  },
  write: () => undefined,
  commit: (done) => done(),
};

/** What may be asked there: all is refused, to everybody. */
export function rehearsal_of(config: Config): Config {
  return { ...config, operators: { uids: new Set(), gids: new Set() }, limits: LIMITS, policy: make_policy([]) };
}

/** Of the connections that wait, the one of this process; others are closed. @returns below 0 if it is not among them */
export function accept_own(listener: number): number {
  for (let fd = native().acceptUnix(listener); ; fd = native().acceptUnix(listener)) {
    if (fd < 0 || read_peer(fd).pid === process.pid) return fd;
    closeSync(fd);
  }
}

/** Where the kernel refuses (no descriptors), the first request is a slow one. */
export async function warm_up(config: Config, log: Logger): Promise<void> {
  const name = `@lowport-${new_id()}${new_id()}`;
  const listener = native().openUnix(name, 1);
  const peer = listener < 0 ? listener : native().openUnix(name, 0);
  const own = peer < 0 ? peer : accept_own(listener);
  if (own >= 0) {
    const server = new Server(listener, rehearsal_of(config), NOWHERE, log);
    server.welcome(own);
    for (const line of [CHECK, BIND, CHECK]) {
      native().send(peer, Buffer.from(line), new Int32Array(0), 0);
      await new Promise<void>((resolve) => watch(peer, READABLE, () => resolve()));
      native().receive(peer, Buffer.alloc(4096));
    }
    unwatch(peer);
    await new Promise<void>((resolve) => server.stop(resolve));
  } else if (listener >= 0) closeSync(listener);
  if (peer >= 0) closeSync(peer);
}
