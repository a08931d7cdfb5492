/**
 * Runs the path of a request some times before the helper says that it is ready, because the first time takes milliseconds longer.
 * Nobody asks here: a peer that is no user, whom no policy allows anything, in a world without rules. Nothing is bound, and
 * nothing recorded or counted, for there is no socket, log or account in it.
 */
import { Accounts } from "./account.js";
import { type Call, make_dispatcher } from "./calls.js";
import type { Config } from "./config.js";
import { read_message } from "./envelope.js";
import { LeaseTable } from "./leases.js";
import type { Log } from "./log.js";
import { make_handlers } from "./methods.js";
import { make_policy, type Peer } from "./policy.js";

const TIMES = 3;
const NOBODY: Peer = { pid: 0, uid: 65_534, gid: 65_534, groups: [], unmapped: true };
const LINE = Buffer.from('{"jsonrpc":"2.0","id":1,"method":"bind","params":{"protocol":"tcp","port":1,"address":"127.0.0.1"}}');

/** @throws Error if it was not refused */
export async function warm_up(started: Config, log: Log): Promise<void> {
  const config = { ...started, policy: make_policy([]) };
  const leases = new LeaseTable(() => undefined);
  const nothing = { connections: () => 0, audit_seq: () => 0, record_now: () => undefined };
  const handlers = make_handlers({ config, leases, policyLoadedAt: new Date(), ...nothing });
  const dispatch = make_dispatcher({ handlers, log, next_seq: () => 0, admit: () => undefined, settled: () => undefined });
  const caller = { number: 0, peer: NOBODY, account: new Accounts().of(NOBODY.uid, config.limits) };
  for (let i = 0; i < TIMES; i++)
    for (const element of read_message(LINE).elements) {
      const call: Call = { caller, record: { event: "call", peer: NOBODY }, response: undefined };
      await dispatch(element, call);
      if (call.record.decision !== "deny") throw new Error(`the helper does not refuse nobody: ${JSON.stringify(call.response)}`);
    }
}
