/** Rules as written become rules as decided by: names to ids, ranges to numbers, addresses to their canonical form. */
import type { BlockList } from "node:net";
import type { Principal, RuleEntry } from "../shared/config-schema.js";
import { canonical_address, family_of, new_block_list } from "./address.js";
import type { Addresses, Rule } from "./policy.js";
import { as_id, find_group, find_user } from "./posix.js";

/** Takes note of what is wrong, and where (a JSON pointer below the rule). */
export type Note = (pointer: string, message: string) => void;

function read_addresses(entries: readonly string[], note: Note): Addresses {
  const literals = new Set<string>();
  const networks: { [family in 4 | 6]?: BlockList } = {};
  for (const [i, entry] of entries.entries()) {
    if (entry === "*") continue;
    const [text, prefix] = entry.split("/") as [string, string?];
    const address = canonical_address(text);
    if (address === undefined) {
      note(`/addresses/${i}`, `"${entry}" is neither *, nor an IP address, nor a network`);
      continue;
    }
    const family = family_of(address);
    const bits = family === 6 ? 128 : 32;
    const length = prefix === undefined ? bits : Number(prefix);
    if (family_of(text) !== family && prefix !== undefined) {
      note(`/addresses/${i}`, `write the network ${entry} as IPv4`);
    } else if (length > bits) note(`/addresses/${i}`, `a prefix of ${address} has at most ${bits} bits, not ${length}`);
    else if (length === bits) literals.add(address);
    else {
      networks[family] ??= new_block_list();
      networks[family].addSubnet(address, length, `ipv${family}`);
      if (length === 0) literals.add(family === 6 ? "::" : "0.0.0.0");
    }
  }
  return { any: entries.includes("*"), literals, networks };
}

function read_ports(entries: readonly (number | string)[], note: Note): [number, number][] {
  return entries.map((entry, i) => {
    const [first, last = first] = String(entry).split("-").map(Number) as [number, number?];
    if (first < 1 || last > 65_535 || first > last) note(`/ports/${i}`, `"${entry}" is not a range within 1-65535`);
    return [first, last];
  });
}

/** Names or numbers of users or groups as their ids; an unknown name is noted. */
export function read_ids(what: "user" | "group", entries: readonly Principal[], pointer: string, note: Note): Set<number> {
  return new Set(
    entries.flatMap((entry, i) => {
      const id = as_id(entry) ?? (what === "user" ? find_user(entry)?.uid : find_group(entry)?.gid);
      if (id === undefined) note(`${pointer}/${i}`, `there is no ${what} "${entry}"`);
      return id ?? [];
    }),
  );
}

/** @param note is called for each fault; the rule is of use only if it was not */
export function read_rule(entry: RuleEntry, note: Note): Rule {
  if (entry.users.length + entry.groups.length === 0) note("/users", "names nobody, and neither does groups; name one");
  if (entry.ports.length === 0) note("/ports", "is empty; name a port");
  return {
    name: entry.name,
    uids: read_ids("user", entry.users, "/users", note),
    gids: read_ids("group", entry.groups, "/groups", note),
    protocols: new Set(entry.protocols),
    addresses: read_addresses(entry.addresses, note),
    ports: read_ports(entry.ports, note),
    maxSockets: entry.maxSockets,
    maxHoldSeconds: entry.maxHoldSeconds,
    reusePort: entry.reusePort,
    share: entry.share,
  };
}
