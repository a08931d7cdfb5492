/** `--allow`: which words are rules, which are not, and that rules are only ever added. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Allowed, add_rules, parse_allow } from "../../../helper/admin/allow.js";

const parsed = (words: string) => parse_allow(words);

test("words become rules", () => {
  assert.deepEqual(parsed("root:tcp:80,443"), {
    name: "root-tcp-80-443",
    users: ["root"],
    protocols: ["tcp"],
    ports: [80, 443],
  });
  assert.deepEqual(parsed("%root:tcp+udp:53,8000-8099@192.0.2.0/24"), {
    name: "group-root-tcp-udp-53-8000-8099-at-192.0.2.0-24",
    groups: ["root"],
    protocols: ["tcp", "udp"],
    ports: [53, "8000-8099"],
    addresses: ["192.0.2.0/24"],
  });
});

test("an IPv6 address has colons of its own", () => {
  assert.deepEqual(parsed("0:udp:53@2001:db8::/32").addresses, ["2001:db8::/32"]);
  assert.deepEqual(parsed("0:udp:53@::1").addresses, ["::1"]);
});

test("a name is one that the configuration takes, however long the words are", () => {
  const ports = (first: number) => Array.from({ length: 40 }, (_, i) => first + i).join(",");
  const [one, other] = [parsed(`root:tcp:${ports(1000)}`), parsed(`root:tcp:${ports(1000)},9`)];
  for (const { name } of [one, other, parsed("0:tcp:80@::1")]) assert.match(name, /^[A-Za-z0-9._-]{1,64}$/);
  assert.notEqual(one.name, other.name);
});

for (const [words, pattern] of [
  ["", /wanted is USER:PROTO:PORTS/],
  ["root", /wanted is/],
  ["root:tcp", /wanted is/],
  ["root:tcp:", /wanted is/],
  ["root:sctp:80", /"sctp" is no protocol; write tcp, udp or tcp\+udp/],
  ["root:TCP:80", /"TCP" is no protocol/],
  ["root:udp+tcp:80", /"udp\+tcp" is no protocol/],
  [":tcp:80", /wanted is/],
  ["%:tcp:80", /wanted is/],
  ["root:tcp:80@", /wanted is/],
  ["root:tcp:80 ", /"80 " is no port/],
  ["root:tcp:http", /"http" is no port; write numbers/],
  ["root:tcp:80,", /"" is no port/],
  ["root:tcp:-80", /"-80" is no port/],
  ["root:tcp:1-2-3", /"1-2-3" is no port/],
  ["root:tcp:0", /"0" is not a range within 1-65535/],
  ["root:tcp:65536", /"65536" is not a range/],
  ["root:tcp:90-80", /the range 90-80 goes down; write 80-90/],
  ["no-such-user:tcp:80", /there is no user "no-such-user"/],
  ["%no-such-group:tcp:80", /there is no group "no-such-group"/],
  ["root:tcp:80@localhost", /neither an IP address nor a network/],
  ["root:tcp:80@*", /neither an IP address nor a network/],
  ["root:tcp:80@1.2.3", /neither \*, nor an IP address/],
  ["root:tcp:80@::1/129", /at most 128 bits/],
  ["root:tcp:80@192.0.2.1/33", /at most 32 bits/],
] as const)
  test(`--allow "${words}" is refused, quoting it`, () => {
    assert.throws(() => parsed(words), pattern);
    assert.throws(
      () => parsed(words),
      (error: Error) => error.message.startsWith(`--allow ${words}:`),
    );
  });

const rule = (words: string): Allowed => parsed(words);

test("rules are added once, whatever their order and limits", () => {
  const first = add_rules([], [rule("root:tcp:80,443"), rule("root:tcp:443,80")], new Set());
  assert.equal(first.length, 1);
  assert.deepEqual(add_rules(first, [rule("root:tcp:80,443")], new Set()), first);
  const edited = [{ ...(first[0] as Allowed), name: "mine", maxSockets: 3 }];
  assert.deepEqual(add_rules(edited, [rule("root:tcp:80,443")], new Set()), edited, "the admin's name and limits stay");
});

test("what is there stays, also if it is no rule", () => {
  const present = [{ name: "mine", users: [1], ports: [1] }, 5, null];
  const rules = add_rules(present, [rule("root:tcp:80")], new Set());
  assert.deepEqual(rules.slice(0, 3), present);
  assert.equal(rules.length, 4);
});

test("a name that is taken, in this file or another, gets a number", () => {
  const edited = [{ ...rule("root:tcp:80"), ports: [81] }];
  const rules = add_rules(edited, [rule("root:tcp:80")], new Set(["root-tcp-80-2"]));
  assert.deepEqual(
    rules.map((each) => (each as Allowed).name),
    ["root-tcp-80", "root-tcp-80-3"],
  );
  assert.deepEqual(add_rules(rules, [rule("root:tcp:80")], new Set(["root-tcp-80-2"])), rules);
});
