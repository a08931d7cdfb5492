/** Rules as written become rules as decided by; every fault is told with the pointer to what is wrong. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { decide, make_policy } from "../../helper/policy.js";
import { read_ids, read_rule } from "../../helper/rules.js";
import type { RuleEntry } from "../../shared/config-schema.js";
import { peer, rule_entry } from "../fixtures.js";

function faults_of(over: Partial<RuleEntry>): string[] {
  const faults: string[] = [];
  read_rule(rule_entry({ users: [1], ...over }), (pointer, message) => faults.push(`${pointer}: ${message}`));
  return faults;
}

for (const [over, ...expected] of [
  [{}],
  [{ users: [], groups: [] }, /^\/users: names nobody/],
  [{ ports: [] }, /^\/ports: is empty/],
  [{ users: ["root", "no-such-user"] }, /^\/users\/1: there is no user "no-such-user"/],
  [{ groups: ["no-such-group"] }, /^\/groups\/0: there is no group "no-such-group"/],
  [{ ports: [80, "0-5"] }, /^\/ports\/1: "0-5" is not a range/],
  [{ ports: ["10-9"] }, /^\/ports\/0: "10-9" is not a range/],
  [{ ports: ["9-65536"] }, /^\/ports\/0: /],
  [{ ports: ["9-65535", "1-1"] }],
  [{ addresses: ["*", "1.2.3", "::1"] }, /^\/addresses\/1: "1.2.3" is neither/],
  [{ addresses: ["1.2.3.4/33"] }, /^\/addresses\/0: a prefix of 1\.2\.3\.4 has at most 32 bits, not 33/],
  [{ addresses: ["::1/129"] }, /^\/addresses\/0: a prefix of ::1 has at most 128 bits/],
  [{ addresses: ["::ffff:1.2.3.0/120"] }, /^\/addresses\/0: write the network .* as IPv4/],
  [{ addresses: ["1.2.3.4/32", "::1/128", "::ffff:1.2.3.4"] }],
  [{ users: [], ports: ["0-0"], addresses: ["x"] }, /^\/users: /, /^\/addresses\/0: /, /^\/ports\/0: /],
] as const satisfies readonly (readonly [Partial<RuleEntry>, ...RegExp[]])[])
  test(`faults of ${JSON.stringify(over)}`, () => {
    const found = faults_of(over);
    assert.equal(found.length, expected.length, found.join("; "));
    for (const [i, pattern] of expected.entries()) assert.match(found[i] as string, pattern);
  });

test("names and numbers become ids", () => {
  const note = (pointer: string, message: string) => assert.fail(`${pointer} ${message}`);
  assert.deepEqual([...read_ids("user", ["root", 33, "34", 4_000_000_000], "", note)], [0, 33, 34, 4_000_000_000]);
  assert.deepEqual([...read_ids("group", ["root", 33], "", note)], [0, 33]);
});

test("a wildcard is covered by *, by itself and by /0 alone", () => {
  const allows = (addresses: string[], address: string) =>
    decide(make_policy([read_rule(rule_entry({ users: [1], addresses }), assert.fail)]), peer(1), {
      protocol: "tcp",
      port: 80,
      address,
      ipv6Only: true,
    }).rule !== undefined;
  assert.ok(allows(["*"], "0.0.0.0"));
  assert.ok(allows(["0.0.0.0/0"], "0.0.0.0"));
  assert.ok(allows(["0.0.0.0"], "0.0.0.0"));
  assert.ok(!allows(["0.0.0.0/1"], "0.0.0.0"));
  assert.ok(!allows(["0.0.0.0"], "127.0.0.1"));
  assert.ok(allows(["::/0"], "::"));
  assert.ok(!allows(["::/1"], "::"));
  assert.ok(!allows(["0.0.0.0/0"], "::"));
  assert.ok(allows(["127.0.0.0/8"], "127.255.0.1"));
  assert.ok(!allows(["127.0.0.0/8"], "128.0.0.1"));
  assert.ok(allows(["10.1.2.3/8"], "10.9.9.9"), "host bits in a network do not matter");
});
