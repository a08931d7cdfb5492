/**
 * Runs the path of a request some times before the helper says that it is ready, because the first time takes milliseconds longer.
 * Nobody asks here: a peer that is no user, whom no policy allows anything, on no connection and with an account of its own. What
 * it asks for is refused, so nothing is bound; and only a connection's requests are recorded and answered.
 */
import { Accounts } from "./account.js";
import { read_message } from "./envelope.js";
import type { Server } from "./server.js";

const NOBODY = { pid: 0, uid: 65_534, gid: 65_534, groups: [], unmapped: true };
const LINE = Buffer.from('{"jsonrpc":"2.0","id":1,"method":"bind","params":{"protocol":"tcp","port":1,"address":"127.0.0.1"}}');

export async function warm_up({ dispatch }: Server, limits: Parameters<Accounts["of"]>[1]): Promise<void> {
  const caller = { number: 0, peer: NOBODY, account: new Accounts().of(NOBODY.uid, limits) };
  for (const element of [1, 2, 3].flatMap(() => read_message(LINE).elements))
    await dispatch(element, { caller, record: { event: "call", peer: NOBODY }, response: undefined });
}
