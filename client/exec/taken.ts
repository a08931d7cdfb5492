/** Why a port is taken, for who runs a program: the helper's own words are for who asks it himself, and can release. */
import type { LeaseEntry } from "../../shared/methods.js";
import { LowportError } from "../errors.js";

/** @param by the user's lease that is in the way, "itself" for one of this program, or what the helper says of others */
export function taken(by: LeaseEntry | "itself" | LowportError): LowportError {
  if (by instanceof LowportError) return by;
  const say = (reason: string) => new LowportError("EADDRINUSE", "bind", reason);
  if (by === "itself") return say("this program has the port already, by a socket that it has not closed");
  const { protocol, address, port, label, lease, hold, state } = by;
  const what = `${protocol} ${address.includes(":") ? `[${address}]` : address}:${port}`;
  const who = `${label === "" ? "a program" : label} of this user`;
  if (state === "active") return say(`${who} has ${what}; end it first (lease ${lease} in \`lowport list\`)`);
  return say(
    `${what} is held for the next start of ${who}, for ${hold} s at most, and this is another socket (its address, IPv6 alone or ` +
      `not, SO_REUSEPORT); wait for that, or an operator ends it with \`lowport revoke ${lease}\``,
  );
}
