/** `lowport list`: leases, as a table. */
import type { LeaseEntry } from "../../shared/methods.js";
import { EXIT } from "../../shared/protocol.js";
import { define, SOCKET, take_words, with_helper } from "./command.js";
import { duration, type Paint, paint_for, table } from "./terminal.js";
import { Users } from "./users.js";

const HEAD = ["LEASE", "UID", "PROTO", "ADDRESS", "PORT", "STATE", "HOLD", "AGE", "LABEL"];

/** Leases for people. @param now milliseconds */
export function lease_table(leases: readonly LeaseEntry[], paint: Paint, users = new Users(), now = Date.now()): string {
  if (leases.length === 0) return "no leases";
  const rows = leases.map((l) => [
    l.lease,
    users.describe(l.uid),
    l.protocol,
    l.address,
    String(l.port),
    l.state,
    `${l.hold} s`,
    duration((now - Date.parse(l.since)) / 1000),
    l.label,
  ]);
  return table(HEAD, rows, paint);
}

export const command = define({
  summary: "my leases; an operator sees those of all",
  words: "",
  options: SOCKET,
  about: "A lease is a socket that the helper has granted: active while its owner is connected, held while the owner restarts.",
  examples: [
    ["lowport list", "who has which port"],
    ["lowport list --json | jq '.leases[] | select(.port == 443)'", "in a script"],
  ],
  async run(words, values) {
    take_words(words, 0, 0);
    const leases = await with_helper(values, (client) => client.list());
    return { data: { leases }, text: lease_table(leases, paint_for()), exit: EXIT.ok };
  },
});
