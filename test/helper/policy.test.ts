/** The policy: a table of single cases, and what the reasons say. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { decide, explain, make_policy, type Peer, type Policy, type Wanted } from "../../helper/policy.js";
import { read_rule } from "../../helper/rules.js";
import type { RuleEntry } from "../../shared/config-schema.js";
import { peer, rule_entry } from "../fixtures.js";

function policy_of(entries: readonly RuleEntry[]): Policy {
  return make_policy(
    entries.map((entry) => read_rule(entry, (pointer, message) => assert.fail(`${entry.name}${pointer}: ${message}`))),
  );
}

const wanted = (over: Partial<Wanted> = {}): Wanted => ({
  protocol: "tcp",
  address: "127.0.0.1",
  port: 80,
  ipv6Only: false,
  ...over,
});

function rule_of(entries: readonly RuleEntry[], who: Peer, what: Wanted): string | undefined {
  return decide(policy_of(entries), who, what).rule?.name;
}

const web = rule_entry({ users: [33] });

for (const [what, entries, who, asked, expected] of [
  ["no rules: nothing", [], peer(33), wanted(), undefined],
  ["root is nobody special", [web], peer(0), wanted(), undefined],
  ["the rule's user", [web], peer(33), wanted(), "web"],
  ["another user", [web], peer(34), wanted(), undefined],
  ["another port", [web], peer(33), wanted({ port: 81 }), undefined],
  ["another protocol", [web], peer(33), wanted({ protocol: "udp" }), undefined],
  ["the primary group", [rule_entry({ groups: [7] })], { ...peer(33), gid: 7 }, wanted(), "web"],
  ["a supplementary group", [rule_entry({ groups: [7] })], peer(33, [5, 7]), wanted(), "web"],
  ["a uid is no gid", [rule_entry({ groups: [33] })], { ...peer(33), gid: 1 }, wanted(), undefined],
  ["unmapped, though named", [web], { ...peer(33), unmapped: true }, wanted(), undefined],
  ["both ends of a range", [rule_entry({ users: [1], ports: ["80-82"] })], peer(1), wanted({ port: 82 }), "web"],
  ["past a range", [rule_entry({ users: [1], ports: ["80-82"] })], peer(1), wanted({ port: 83 }), undefined],
  [
    "first match wins",
    [rule_entry({ name: "a", users: [2] }), rule_entry({ name: "b", users: [1] }), rule_entry({ name: "c", users: [1] })],
    peer(1),
    wanted(),
    "b",
  ],
  [
    "first match wins, also where the first is by group",
    [rule_entry({ name: "group", groups: [9] }), rule_entry({ name: "user", users: [1] })],
    peer(1, [9]),
    wanted(),
    "group",
  ],
  [":: with the IPv6 rule alone", [rule_entry({ users: [1], addresses: ["::"] })], peer(1), wanted({ address: "::" }), undefined],
  [
    ":: with the IPv4 rule alone",
    [rule_entry({ users: [1], addresses: ["0.0.0.0"] })],
    peer(1),
    wanted({ address: "::" }),
    undefined,
  ],
  [
    ":: with ipv6Only needs no IPv4 rule",
    [rule_entry({ users: [1], addresses: ["::"] })],
    peer(1),
    wanted({ address: "::", ipv6Only: true }),
    "web",
  ],
  [
    ":: with two rules",
    [rule_entry({ name: "6", users: [1], addresses: ["::"] }), rule_entry({ name: "4", users: [1], addresses: ["0.0.0.0"] })],
    peer(1),
    wanted({ address: "::" }),
    "6",
  ],
  [
    "a network does not hold its family's wildcard",
    [rule_entry({ users: [1], addresses: ["0.0.0.0/8", "::/8"] })],
    peer(1),
    wanted({ address: "0.0.0.0" }),
    undefined,
  ],
  [
    "IPv6's /0 is not IPv4",
    [rule_entry({ users: [1], addresses: ["::/0"] })],
    peer(1),
    wanted({ address: "10.0.0.1" }),
    undefined,
  ],
  [
    "an IPv6 network around the mapped addresses is not IPv4",
    [rule_entry({ users: [1], addresses: ["::/64"] })],
    peer(1),
    wanted({ address: "10.0.0.1" }),
    undefined,
  ],
  [
    "IPv4's /0 is not IPv6",
    [rule_entry({ users: [1], addresses: ["0.0.0.0/0"] })],
    peer(1),
    wanted({ address: "::1" }),
    undefined,
  ],
] as const)
  test(`decides: ${what}`, () => assert.equal(rule_of(entries, who, asked), expected));

test("the reason of a yes names the rule, the socket and the peer", () => {
  assert.equal(explain(policy_of([web]), peer(33, [4]), wanted()), 'rule "web" allows tcp 127.0.0.1:80 to uid 33 (groups 33, 4)');
});

test("the reason of a no names the nearest rule and all that it lacks", () => {
  const far = rule_entry({ name: "far", users: [1], protocols: ["udp"], ports: [53], addresses: ["::1"] });
  const near = rule_entry({ name: "near", users: [33], ports: [81] });
  const reason = (entries: RuleEntry[], who: Peer, what = wanted()) => explain(policy_of(entries), who, what);
  assert.match(reason([far, near], peer(33)), /the nearest rule, "near", lacks 80 in its ports; /);
  assert.match(reason([far, near], peer(33)), /^tcp 127\.0\.0\.1:80 is not allowed to uid 33 /);
  assert.match(
    reason([far], peer(33)),
    /"far", lacks this user in its users or groups and tcp in its protocols and 80 in its ports and 127\.0\.0\.1 in its/,
  );
  assert.match(reason([], peer(33)), /there are no rules/);
  const six = rule_entry({ name: "six", users: [33], addresses: ["::"] });
  assert.match(reason([six], peer(33), wanted({ address: "::" })), /for 0\.0\.0\.0, which it takes too unless ipv6Only/);
  assert.match(reason([web], { ...peer(33), unmapped: true }), /does not know in the helper's user namespace/);
});
