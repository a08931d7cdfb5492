/**
 * Promise: `lowport status | list | check | revoke` say what the helper says, as text and as one JSON document, and end with
 * the exit code that README gives.
 */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { EXIT, VERSION } from "../../shared/protocol.js";
import { enter_box, USERS } from "./box.js";
import { App, all_leases, freeze, get } from "./client-app.js";
import { both_ways, lowport } from "./client-command.js";
import { AUDIT, start_helper, WEB_RULE } from "./helper-process.js";

await enter_box(import.meta.url);

/** An app of alice's on port 80. */
async function serve(t: TestContext): Promise<string> {
  const app = App.start(t, USERS.alice, async ({ lowport: { listen }, node, say }) => {
    const server = node.http.createServer((_, response) => response.end("served"));
    const { lease } = await listen(server, { port: 80, hold: 5, label: "web-1" });
    say("listening", lease?.lease);
  });
  return app.said("listening");
}

test("status says what runs, and whom it takes one for", async (t) => {
  const helper = await start_helper(t);
  const { text, json } = await both_ways(USERS.carol, ["status"], EXIT.ok);
  assert.equal(json.version, VERSION);
  assert.equal(json.pid, helper.pid);
  assert.deepEqual(json.you, { uid: 2003, gid: 2003, groups: [990, 3000], operator: false });
  assert.match(text.stdout, /^lowport .* is running: pid \d+, up \d+ s, 1 connection, 0 leases, audit record \d+\n/);
  assert.match(text.stdout, /you are uid 2003, gid 2003, groups 990, 3000\n/);
  assert.match((await lowport(USERS.olaf, ["status"])).stdout, /, an operator\n$/);
});

test("list shows one's own leases, and all of them to an operator", async (t) => {
  await start_helper(t);
  const empty = await both_ways(USERS.alice, ["list"], EXIT.ok);
  assert.equal(empty.text.stdout, "no leases\n");
  assert.deepEqual(empty.json, { leases: [] });
  const lease = await serve(t);
  for (const user of [USERS.alice, USERS.olaf, USERS.root]) {
    const { text, json } = await both_ways(user, ["list"], EXIT.ok);
    const [{ since: _, ...entry }] = json.leases;
    assert.deepEqual(entry, {
      lease,
      uid: 2001,
      protocol: "tcp",
      address: "::",
      port: 80,
      state: "active",
      label: "web-1",
      hold: 5,
    });
    const [head, row, ...more] = text.stdout.trimEnd().split("\n");
    assert.deepEqual(head?.split(/ {2,}/), ["LEASE", "UID", "PROTO", "ADDRESS", "PORT", "STATE", "HOLD", "AGE", "LABEL"]);
    const cells = row?.split(/ {2,}/) ?? [];
    assert.match(cells[7] ?? "", /^\d s$/);
    assert.deepEqual(cells.toSpliced(7, 1), [lease, "2001 (alice)", "tcp", "::", "80", "active", "5 s", "web-1"]);
    assert.deepEqual(more, []);
  }
  assert.deepEqual((await both_ways(USERS.bob, ["list"], EXIT.ok)).json, { leases: [] });
});

test("check: 0 if allowed, 1 if not, with the reason", async (t) => {
  await start_helper(t, {
    rules: [
      { ...WEB_RULE, addresses: ["*"] },
      { name: "six", users: ["bob"], ports: [25], addresses: ["::/0"] },
    ],
  });
  const yes = await both_ways(USERS.alice, ["check", "tcp", "80"], EXIT.ok);
  assert.equal(yes.json.allowed, true);
  assert.equal(yes.json.rule, "web");
  assert.match(yes.text.stdout, /^allowed: /);
  const no = await both_ways(USERS.alice, ["check", "tcp", "25", "127.0.0.1"], EXIT.refused);
  assert.equal(no.json.allowed, false);
  assert.match(no.text.stdout, /^not allowed: .*lacks 25 in its ports/);
  assert.equal((await both_ways(USERS.alice, ["check", "udp", "53"], EXIT.refused)).json.allowed, false);
  assert.equal((await both_ways(USERS.bob, ["check", "tcp", "25", "--ipv6-only"], EXIT.ok)).json.rule, "six");
  await both_ways(USERS.bob, ["check", "tcp", "25"], EXIT.refused);
});

test("check --uid and --user are for operators; the answer names rule and user, or what is nearest", async (t) => {
  await start_helper(t);
  const yes = await both_ways(USERS.olaf, ["check", "udp", "80", "10.0.0.1", "--user", "alice"], EXIT.ok);
  assert.match(yes.text.stdout, /^allowed: rule "web" allows udp 10\.0\.0\.1:80 to uid 2001 \(alice\) \(groups /);
  assert.deepEqual([yes.json.allowed, yes.json.rule], [true, "web"]);
  const no = await both_ways(USERS.olaf, ["check", "udp", "53", "10.0.0.1", "--user", "bob"], EXIT.refused);
  assert.match(
    no.text.stdout,
    /^not allowed: udp 10\.0\.0\.1:53 is not allowed to uid 2002 \(bob\) .*nearest rule, "web", lacks .*53 in its ports/,
  );
  assert.equal((await both_ways(USERS.alice, ["check", "tcp", "80", "--user", "alice"], EXIT.ok)).json.rule, "web");
  await both_ways(USERS.olaf, ["check", "tcp", "80", "--uid", "2001"], EXIT.ok);
  await both_ways(USERS.olaf, ["check", "tcp", "80", "--uid", "2002"], EXIT.refused);
  const { json } = await both_ways(USERS.alice, ["check", "tcp", "80", "--uid", "2002"], EXIT.refused);
  assert.equal(json.error.code, "EACCES");
});

test("revoke takes a socket back; not for its owner, and not twice", async (t) => {
  await start_helper(t);
  const lease = await serve(t);
  const denied = await both_ways(USERS.alice, ["revoke", lease], EXIT.refused);
  assert.equal(denied.json.error.code, "EACCES");
  assert.equal(await get(80), "served");
  const { code, stdout, stderr } = await lowport(USERS.olaf, ["revoke", lease]);
  assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: `revoked ${lease}\n`, stderr: "" });
  await assert.rejects(get(80));
  assert.deepEqual(await all_leases(), []);
  assert.equal((await both_ways(USERS.olaf, ["revoke", lease], EXIT.refused)).json.error.code, "ENOENT");
  assert.equal((await both_ways(USERS.olaf, ["revoke", "no lease"], EXIT.refused)).json.error.code, "ERR_LOWPORT_INVALID_PARAMS");
  const second = await serve(t).catch(() => undefined);
  if (second !== undefined)
    assert.deepEqual(JSON.parse((await lowport(USERS.root, ["revoke", second, "--json"])).stdout), { revoked: true });
});

test("a helper that cannot be reached is 69, no permission 77, whatever is asked", async (t) => {
  const helper = await start_helper(t);
  const commands = [["status"], ["list"], ["check", "tcp", "80"], ["revoke", "x"]];
  for (const args of commands) assert.equal((await both_ways(USERS.mallory, args, EXIT.noPermission)).json.error.code, "EACCES");
  await helper.stop("SIGKILL");
  for (const args of commands)
    assert.equal((await both_ways(USERS.alice, args, EXIT.unreachable)).json.error.code, "ECONNREFUSED");
  rmSync("/run/lowport/lowport.sock");
  assert.equal((await both_ways(USERS.alice, ["status"], EXIT.unreachable)).json.error.code, "ENOENT");
});

test("a helper that accepts and hangs cannot be reached either: 69", async (t) => {
  const helper = await start_helper(t);
  await freeze(helper);
  const { code, stderr } = await lowport(USERS.alice, ["status"]);
  assert.match(stderr, /did not answer within/);
  assert.equal(code, EXIT.unreachable);
});

test("the socket is that of --socket, else of LOWPORT_SOCKET, else the default", async (t) => {
  const helper = await start_helper(t, { config: { socket: { path: "/run/lowport/other.sock" } } });
  assert.equal((await lowport(USERS.alice, ["status"])).code, EXIT.unreachable);
  const elsewhere = { LOWPORT_SOCKET: "/run/lowport/other.sock" };
  assert.equal((await lowport(USERS.alice, ["status"], elsewhere)).code, EXIT.ok);
  const { code, stdout } = await lowport(USERS.alice, ["status", "--json", "--socket", "/run/lowport/other.sock"], {
    LOWPORT_SOCKET: "/nonexistent",
  });
  assert.equal(code, EXIT.ok);
  assert.equal(JSON.parse(stdout).pid, helper.pid);
});

test("audit verify of the real log: sound after two lives of the helper; 77 for who may not read it", async (t) => {
  const first = await start_helper(t);
  const app = App.start(t, USERS.alice, async ({ lowport: library, say }) => {
    await library.bind({ protocol: "tcp", port: 25 }).catch(() => say("denied"));
  });
  await app.said("denied");
  await first.stop();
  const second = await start_helper(t, { keep: true });
  await lowport(USERS.alice, ["list"]);
  await second.recorded("the disconnect of the last one", ({ event, seq }) => event === "disconnect" && seq > 6);
  const lines = second.audit().length;
  const { json } = await both_ways(USERS.root, ["audit", "verify", AUDIT, "--reach", String(lines)], EXIT.ok);
  assert.deepEqual([json.lines, json.first, json.head.seq], [lines, 1, lines]);
  assert.equal((await both_ways(USERS.alice, ["audit", "verify", AUDIT], EXIT.noPermission)).json.error.code, "EACCES");
});
