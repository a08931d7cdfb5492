/** The configuration in a folder of root's: defaults, rules.d, and every fault told at once with file and pointer. */
import assert from "node:assert/strict";
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ConfigFault, load_config } from "../../helper/config.js";
import { decide } from "../../helper/policy.js";
import { LIMITS } from "../../shared/protocol.js";
import { needs_root, peer, temp_folder } from "../fixtures.js";

const options = { skip: needs_root };
const BASE = { user: 65534, socket: { group: 65534 }, rules: [] };

/** Writes lowport.json, and what is in rules.d. */
function write_config(main: unknown, more: Record<string, unknown> = {}): string {
  const folder = temp_folder();
  const text = (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value));
  const file = join(folder, "lowport.json");
  writeFileSync(file, text(main), { mode: 0o644 });
  if (Object.keys(more).length > 0) mkdirSync(join(folder, "rules.d"), { mode: 0o755 });
  for (const [name, value] of Object.entries(more)) writeFileSync(join(folder, "rules.d", name), text(value), { mode: 0o644 });
  return file;
}

function faults_of(file: string): string[] {
  try {
    load_config(file);
  } catch (error) {
    assert.ok(error instanceof ConfigFault, String(error));
    assert.equal(error.message, error.faults.join("\n"));
    return error.faults.map((fault) => fault.replace(file.replace(/lowport\.json$/, ""), ""));
  }
  return [];
}
const rule = (name: string, over = {}) => ({ name, users: [33], ports: [80], ...over });

test("the least that one must write, and all defaults", options, () => {
  const config = load_config(write_config(BASE));
  assert.deepEqual(config.socket, { path: "/run/lowport/lowport.sock", gid: 65534, mode: 0o660 });
  assert.deepEqual([config.user.uid, config.user.gid, config.user.name], [65534, 65534, "nobody"]);
  assert.deepEqual(config.audit, { path: "/var/log/lowport/audit.log", durability: "write", syslog: true });
  assert.deepEqual(config.limits, { ...LIMITS });
  assert.deepEqual([...config.operators.uids], [0]);
  assert.equal(config.policy.rules.length, 0);
});

test("rules of rules.d follow those of the main file, in name order; other files there are not read", options, () => {
  const file = write_config(
    { ...BASE, rules: [rule("main")] },
    {
      ...{ "20-b.json": { rules: [rule("b")] }, "10-a.json": { $schema: "x", rules: [rule("a1"), rule("a2")] } },
      ...{ ".hidden.json": "not JSON", "30-c.json.bak": "not JSON" },
    },
  );
  const { policy } = load_config(file);
  assert.deepEqual(
    policy.rules.map(({ name }) => name),
    ["main", "a1", "a2", "b"],
  );
  const wanted = { protocol: "tcp", address: "::1", port: 80, ipv6Only: false } as const;
  assert.equal(decide(policy, peer(33), wanted).rule?.name, "main");
  assert.equal(decide(policy, peer(34), wanted).rule, undefined);
});

for (const [what, main, ...expected] of [
  ["no JSON", "{", /^lowport\.json: \/: is not JSON: /],
  ["no object", "[]", /^lowport\.json: \/: /],
  ["no rules", { ...BASE, rules: undefined }, /^lowport\.json: \/rules: is missing$/],
  ["an unknown member", { ...BASE, usr: "x" }, /^lowport\.json: \/usr: is not a known member$/],
  [
    "an unknown member deep in",
    { ...BASE, rules: [rule("a", { port: 1 })] },
    /^lowport\.json: \/rules\/0\/port: is not a known member$/,
  ],
  ["__proto__", '{"user":65534,"socket":{"group":65534},"rules":[],"__proto__":{}}', /\/__proto__: is not a known member$/],
  ["a wrong mode", { ...BASE, socket: { group: 65534, mode: "660" } }, /^lowport\.json: \/socket\/mode: /],
  ["a relative path", { ...BASE, audit: { path: "audit.log" } }, /^lowport\.json: \/audit\/path: /],
  ["a limit of 0", { ...BASE, limits: { connections: 0 } }, /^lowport\.json: \/limits\/connections: /],
  ["a wrong port, told once", { ...BASE, rules: [rule("a", { ports: ["x"] })] }, /^lowport\.json: \/rules\/0\/ports\/0: /],
  ["an unknown user", { ...BASE, user: "no-such-user" }, /^lowport\.json: \/user: there is no user "no-such-user"/],
  ["root as user", { ...BASE, user: "root" }, /^lowport\.json: \/user: must not be root/],
  ["0 as user", { ...BASE, user: 0 }, /^lowport\.json: \/user: must not be root/],
  ["an unknown group", { ...BASE, socket: { group: "no-such-group" } }, /^lowport\.json: \/socket\/group: there is no group/],
  ["an unknown operator", { ...BASE, operators: { users: ["no-such-user"] } }, /^lowport\.json: \/operators\/users\/0: /],
  ["two of a name", { ...BASE, rules: [rule("a"), rule("a")] }, /^lowport\.json: \/rules\/1\/name: there is another rule "a"/],
  [
    "several at once",
    {
      ...BASE,
      user: "no-such-user",
      rules: [rule("a", { users: ["nobody-here"], addresses: ["1.2"] }), rule("b", { ports: [] })],
    },
    /\/rules\/0\/users\/0: /,
    /\/rules\/0\/addresses\/0: /,
    /\/rules\/1\/ports: /,
    /\/user: /,
  ],
] as const satisfies readonly (readonly [string, unknown, ...RegExp[]])[])
  test(`faults: ${what}`, options, () => {
    const found = faults_of(write_config(main));
    assert.equal(found.length, expected.length, found.join("\n"));
    for (const [i, pattern] of expected.entries()) assert.match(found[i] as string, pattern);
  });

test("faults of rules.d name their file; names are unique over all files", options, () => {
  const file = write_config(
    { ...BASE, rules: [rule("a")] },
    { "1.json": { rules: [rule("a")] }, "2.json": "{", "3.json": { rules: [rule("c", { users: [], groups: [] })] } },
  );
  const found = faults_of(file);
  assert.deepEqual(
    found.map((fault) => fault.split(": ").slice(0, 2).join(": ")),
    ["rules.d/1.json: /rules/0/name", "rules.d/2.json: /", "rules.d/3.json: /rules/0/users"],
  );
});

test("files that are not root's alone are not believed", options, () => {
  const file = write_config(BASE, { "1.json": { rules: [] } });
  chmodSync(join(file, "../rules.d/1.json"), 0o666);
  assert.match(faults_of(file)[0] ?? "", /^rules\.d\/1\.json: \/: .*can be written by others/);
  chmodSync(file, 0o620);
  assert.match(faults_of(file)[0] ?? "", /^lowport\.json: \/: .*can be written by others/);
});

test("a file that is not there, or a link", options, () => {
  assert.match(faults_of(join(temp_folder(), "lowport.json"))[0] ?? "", /: \/: there is no such file/);
  const file = write_config(BASE);
  const link = join(temp_folder(), "lowport.json");
  symlinkSync(file, link);
  assert.match(faults_of(link)[0] ?? "", /is a symbolic link/);
});

test("rules in a rules.d that others can write are not believed", options, () => {
  const file = write_config(BASE, { "1.json": { rules: [] } });
  chmodSync(join(file, "../rules.d"), 0o777);
  assert.match(faults_of(file)[0] ?? "", /rules\.d.* can be written by others/);
});

test("the group adm need not be there unless it is named by the admin; what takes a restart can be told", options, () => {
  const fixed = (over: object) => load_config(write_config({ ...BASE, ...over })).fixed;
  assert.equal(fixed({}), fixed({ limits: { connections: 5 }, rules: [rule("a")], operators: { users: [1] } }));
  assert.notEqual(fixed({}), fixed({ user: 65533 }));
  assert.notEqual(fixed({}), fixed({ audit: { durability: "fsync" } }));
  assert.notEqual(fixed({}), fixed({ socket: { group: 65534, mode: "0666" } }));
});
