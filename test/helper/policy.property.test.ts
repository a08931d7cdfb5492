/** The policy over random rules, with a second, naive implementation as oracle. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { is_wildcard } from "../../helper/address.js";
import { decide, explain, make_policy, type Peer, type Policy, type Wanted } from "../../helper/policy.js";
import { read_rule } from "../../helper/rules.js";
import type { RuleEntry } from "../../shared/config-schema.js";
import { rule_entry } from "../fixtures.js";

function policy_of(entries: readonly RuleEntry[]): Policy {
  return make_policy(
    entries.map((entry) => read_rule(entry, (pointer, message) => assert.fail(`${entry.name}${pointer}: ${message}`))),
  );
}

function rule_of(entries: readonly RuleEntry[], who: Peer, what: Wanted): string | undefined {
  return decide(policy_of(entries), who, what).rule?.name;
}

const NETWORKS = ["*", "::/0", "0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/31", "0.0.0.0/8", "::/8", "::/64", "2001:db8::/32"];
const LITERALS = ["::", "0.0.0.0", "127.0.0.1", "10.0.0.1", "10.0.0.2", "::1", "2001:db8::1", "fe80::1"];
const some = <T>(values: readonly T[]) => fc.uniqueArray(fc.constantFrom(...values), { maxLength: 3 });
const entries_of = (ids: readonly number[]): fc.Arbitrary<RuleEntry[]> =>
  fc
    .array(
      fc.record({
        users: some(ids),
        groups: some(ids),
        protocols: some(["tcp", "udp"] as const),
        addresses: some([...NETWORKS, ...LITERALS]),
        ports: some([80, 81, 443, "80-90", "1-65535", "443-443"]),
      }),
      { maxLength: 6 },
    )
    .map((rules) =>
      rules
        .filter(({ users, groups, ports }) => users.length + groups.length > 0 && ports.length > 0)
        .map((over, i) => rule_entry({ ...over, name: `r${i}` })),
    );
const IDS = [1, 2, 3];
const any_peer = fc.record({
  pid: fc.constant(1),
  uid: fc.constantFrom(...IDS),
  gid: fc.constantFrom(...IDS),
  groups: some(IDS),
});
const any_wanted: fc.Arbitrary<Wanted> = fc.record({
  protocol: fc.constantFrom("tcp" as const, "udp" as const),
  address: fc.constantFrom(...LITERALS),
  port: fc.constantFrom(79, 80, 81, 90, 91, 443),
  ipv6Only: fc.boolean(),
});

/** All bits of an address, the long way. */
function bits_of(address: string): string {
  if (!address.includes(":"))
    return address
      .split(".")
      .map((part) => Number(part).toString(2).padStart(8, "0"))
      .join("");
  const [head = "", tail = ""] = address.split("::").map((half) => (half === "" ? "" : half));
  const words = (half: string) => (half === "" ? [] : half.split(":"));
  const zeros = Array<string>(8 - words(head).length - words(tail).length).fill("0");
  const all = address.includes("::") ? [...words(head), ...zeros, ...words(tail)] : words(address);
  return all.map((word) => Number.parseInt(word, 16).toString(2).padStart(16, "0")).join("");
}

function naive_match(entry: RuleEntry, who: Peer, what: Wanted): boolean {
  const named = entry.users.includes(who.uid) || [who.gid, ...who.groups].some((gid) => entry.groups.includes(gid));
  const ports = entry.ports.map((port) => String(port).split("-").map(Number));
  const address = entry.addresses.some((text) => {
    if (text === "*" || text === what.address) return true;
    const [network = "", prefix] = text.split("/");
    if (prefix === undefined || network.includes(":") !== what.address.includes(":")) return false;
    if (is_wildcard(what.address)) return prefix === "0";
    return bits_of(network).slice(0, Number(prefix)) === bits_of(what.address).slice(0, Number(prefix));
  });
  return (
    named &&
    entry.protocols.includes(what.protocol) &&
    ports.some(([first = 0, last = first]) => what.port >= first && what.port <= last) &&
    address
  );
}

const naive = (entries: RuleEntry[], who: Peer, what: Wanted) => entries.find((entry) => naive_match(entry, who, what))?.name;

test("decides as a naive implementation does, over random rules", () => {
  fc.assert(
    fc.property(entries_of(IDS), any_peer, any_wanted, (entries, who, what) => {
      const both = what.address === "::" && !what.ipv6Only ? naive(entries, who, { ...what, address: "0.0.0.0" }) : "";
      const expected = both === undefined ? undefined : naive(entries, who, what);
      assert.equal(rule_of(entries, who, what), expected);
    }),
    { numRuns: 2000 },
  );
});

test("a rule for another user never changes my decision", () => {
  fc.assert(
    fc.property(entries_of(IDS), entries_of([8, 9]), any_peer, any_wanted, fc.nat(), (mine, others, who, what, at) => {
      const cut = at % (mine.length + 1);
      const renamed = others.map((entry) => ({ ...entry, name: `other-${entry.name}` }));
      const mixed = [...mine.slice(0, cut), ...renamed, ...mine.slice(cut)];
      assert.equal(rule_of(mixed, who, what), rule_of(mine, who, what));
    }),
  );
});

test(":: without ipv6Only is allowed only if :: and 0.0.0.0 both are; unmapped peers get nothing", () => {
  fc.assert(
    fc.property(entries_of(IDS), any_peer, any_wanted, (entries, who, what) => {
      const allowed = (over: Partial<Wanted>) => rule_of(entries, who, { ...what, ...over }) !== undefined;
      const apart = allowed({ address: "::", ipv6Only: true }) && allowed({ address: "0.0.0.0" });
      assert.equal(allowed({ address: "::", ipv6Only: false }), apart);
      assert.equal(rule_of(entries, { ...who, unmapped: true }, what), undefined);
    }),
  );
});

test("a no always has a reason that says what to do, and names a rule if there is one", () => {
  fc.assert(
    fc.property(entries_of(IDS), any_peer, any_wanted, (entries, who, what) => {
      const policy = policy_of(entries);
      const { rule } = decide(policy, who, what);
      const reason = explain(policy, who, what);
      if (rule !== undefined) assert.match(reason, new RegExp(`^rule "${rule.name}" allows `));
      else if (entries.length === 0) assert.match(reason, /there are no rules; an admin adds one/);
      else assert.match(reason, /the nearest rule, "r\d", lacks .+; an admin adds/);
    }),
  );
});
