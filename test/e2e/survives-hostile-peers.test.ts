/**
 * Promise: nothing that a peer sends, keeps back, or does by vanishing makes the helper die, leak a descriptor, grow
 * without bound, break its record, or keep another peer waiting. After each case all of that is looked at.
 */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { type Helper, type Options, start_helper, until, verify_chain, WEB_RULE } from "./helper-process.js";
import { Peer, type Reply, request } from "./peer.js";

await enter_box(import.meta.url);

const GENEROUS = { limits: { requestsPerSecond: 1_000_000, requestBurst: 1_000_000 } };

/** Lets a peer misbehave and then looks whether anything of it stayed. */
async function outlive(t: TestContext, options: Options, misbehave: (alice: Peer, helper: Helper) => Promise<void>) {
  const helper = await start_helper(t, options);
  const [alice, bob] = [await Peer.start(t, USERS.alice), await Peer.start(t, USERS.bob)];
  const witness = await bob.connect();
  await witness.ask("status");
  const before = helper.fd_count();
  await misbehave(alice, helper);
  assert.equal((await witness.ask("status")).error, undefined, "another peer is served");
  if (alice.process.exitCode === null && alice.process.signalCode === null) await alice.kill();
  // Connections that have been closed may still wait in the kernel's queue to be accepted.
  await until("only the witness is connected, and no descriptor is left of the others", async () => {
    const { connections } = (await witness.ask("status")).result;
    return connections === 1 && helper.fd_count() === before;
  });
  assert.ok(helper.alive);
  const { leases } = (await (await (await Peer.start(t, USERS.olaf)).connect()).ask("list")).result;
  assert.deepEqual(leases, []);
  verify_chain();
}

const call = (params: string) => `{"jsonrpc":"2.0","id":1,"method":"bind","params":${params}}`;
/** A line, and the codes of the replies to it (a batch's in one array). */
const LINES: [string, string | Buffer, (number | undefined)[]][] = [
  [
    "invalid UTF-8",
    Buffer.concat([Buffer.from('{"jsonrpc":"2.0","id":1,"method":"st'), Buffer.of(0xff, 0xfe, 0xc0, 0xaf), Buffer.from('"}')]),
    [-32700],
  ],
  ["a UTF-8 byte order mark", '\ufeff{"jsonrpc":"2.0","id":1,"method":"status"}', [-32700]],
  ["an empty line", "", [-32700]],
  ["NUL bytes", "\0\0\0", [-32700]],
  ["a raw NUL in a string", call('{"protocol":"tcp","port":80,"label":"a\0b"}'), [-32700]],
  ["an escaped NUL in a label", call('{"protocol":"tcp","port":80,"label":"a\\u0000b"}'), [-32602]],
  ["an escaped NUL in an address", call('{"protocol":"tcp","port":80,"address":"127.0.0.1\\u0000"}'), [-32602]],
  ["no JSON", "GET / HTTP/1.1", [-32700]],
  ["half a JSON text", '{"jsonrpc":"2.0","id":1', [-32700]],
  ["two JSON texts on a line", '{"jsonrpc":"2.0","id":1,"method":"status"}{}', [-32700]],
  ["null", "null", [-32600]],
  ["a number", "7", [-32600]],
  ["a string", '"status"', [-32600]],
  ["an array of null", "[null]", [-32600]],
  ["no jsonrpc", '{"id":1,"method":"status"}', [-32600]],
  ["jsonrpc 1.0", '{"jsonrpc":"1.0","id":1,"method":"status"}', [-32600]],
  ["a method that is a number", '{"jsonrpc":"2.0","id":1,"method":7}', [-32600]],
  ["a response", '{"jsonrpc":"2.0","id":1,"result":true}', [-32600]],
  ["an unknown member", '{"jsonrpc":"2.0","id":1,"method":"status","uid":0}', [-32600]],
  ["a __proto__ member", '{"jsonrpc":"2.0","id":1,"method":"status","__proto__":{"uid":0}}', [-32600]],
  ["__proto__ in params", call('{"protocol":"tcp","port":80,"__proto__":{"hold":9}}'), [-32602]],
  ["constructor in params", call('{"protocol":"tcp","port":80,"constructor":{"prototype":{}}}'), [-32602]],
  ["params by position", call('["tcp",80]'), [-32602]],
  ["params that are a string", call('"tcp"'), [-32600]],
  ["params that are null", call("null"), [-32600]],
  ["a duplicate member: the last counts, for the policy as for the record", call('{"protocol":"tcp","port":80,"port":22}'), [1]],
  ["a deeply nested array", "[".repeat(30_000) + "]".repeat(30_000), [-32600]],
  ["deeply nested params", call(`${'{"a":'.repeat(10_000)}1${"}".repeat(10_000)}`), [-32602]],
  ["a huge number for a port", call('{"protocol":"tcp","port":1e400}'), [-32602]],
  ["a long number for a port", call(`{"protocol":"tcp","port":${"9".repeat(5000)}}`), [-32602]],
  ["port 0", call('{"protocol":"tcp","port":0}'), [-32602]],
  ["port -1", call('{"protocol":"tcp","port":-1}'), [-32602]],
  ["port 65536", call('{"protocol":"tcp","port":65536}'), [-32602]],
  ["port 80.5", call('{"protocol":"tcp","port":80.5}'), [-32602]],
  ["a port that is a string", call('{"protocol":"tcp","port":"80"}'), [-32602]],
  ["a protocol of another case", call('{"protocol":"TCP","port":80}'), [-32602]],
  ["a boolean that is a string", call('{"protocol":"tcp","port":80,"share":"true"}'), [-32602]],
  ["a lone surrogate as an id", '{"jsonrpc":"2.0","id":"\\ud800","method":"nosuch"}', [-32600]],
  ["a lone surrogate as a method", '{"jsonrpc":"2.0","id":1,"method":"\\udfff"}', [-32601]],
  ["a method cut within a surrogate pair", `{"jsonrpc":"2.0","id":1,"method":"${"x".repeat(63)}\u{1f600}"}`, [-32601]],
  [
    "a method that looks like a record's end",
    `{"jsonrpc":"2.0","id":1,"method":"x\\",\\"hash\\":\\"${"0".repeat(30)}"}`,
    [-32601],
  ],
  [
    "an id that looks like a record",
    `{"jsonrpc":"2.0","id":"\\n{\\"seq\\":1,\\"hash\\":\\"${"0".repeat(64)}\\"}","method":"status"}`,
    [undefined],
  ],
  ["line ends of other kinds", '{"jsonrpc":"2.0","id":"\u2028\u2029\\r\\n\u0085","method":"status"}\r', [undefined]],
  ["a long method", `{"jsonrpc":"2.0","id":1,"method":"${"m".repeat(60_000)}"}`, [-32601]],
  ["a name of Object.prototype", '{"jsonrpc":"2.0","id":1,"method":"hasOwnProperty"}', [-32601]],
];

test("hostile lines are answered with their code, one by one", async (t) => {
  await outlive(t, { config: GENEROUS }, async (alice, helper) => {
    const wire = await alice.connect();
    for (const [name, line, codes] of LINES) {
      await wire.send(Buffer.concat([Buffer.from(line), Buffer.from("\n")]));
      const { text, fds } = await wire.line();
      const reply = JSON.parse(text) as Reply | Reply[];
      assert.deepEqual(
        [reply].flat().map(({ error }) => error?.code),
        codes,
        `${name}: ${text.slice(0, 300)}`,
      );
      assert.deepEqual(fds, []);
      assert.ok(helper.alive, name);
    }
    const [last] = helper.audit().filter((line) => line.method === "bind" && line.code === "EACCES");
    assert.equal(last?.params?.["port"], 22);
    assert.equal(helper.audit().filter((line) => line.params !== undefined && line.decision === "invalid").length, 0);
  });
});

test("garbage, in any pieces, is garbage", async (t) => {
  await outlive(t, { config: GENEROUS }, async (alice) => {
    let state = 1;
    const random = () => (state = (state * 48_271) % 2_147_483_647);
    for (let round = 0; round < 20; round++) {
      const wire = await alice.connect();
      const bytes = Buffer.from(Array.from({ length: 5000 }, () => random() % 256));
      await wire.send(bytes).catch(() => undefined);
      await wire.send("\n").catch(() => undefined);
      if (round % 2 === 0) await wire.shutdown(1).catch(() => undefined);
      if (round % 2 === 0) await wire.rest();
      await wire.close();
    }
  });
});

test("descriptors that a client sends are dropped", async (t) => {
  await outlive(t, {}, async (alice, helper) => {
    const wire = await alice.connect();
    await wire.ask("status");
    const before = helper.fd_count();
    for (let i = 0; i < 20; i++) {
      await wire.send(request("status"), Array(100).fill(wire.conn));
      assert.equal((await wire.reply()).error, undefined);
      assert.equal(helper.fd_count(), before);
    }
    await wire.send('{"json', [0, 1, 2]); // and with a line that never ends
  });
});

test("peers that vanish between request and reply leave no lease, no descriptor and no bound port", async (t) => {
  await outlive(t, { config: GENEROUS }, async (alice) => {
    for (let i = 0; i < 100; i++) {
      const wire = await alice.connect();
      await wire
        .send(request("bind", { protocol: i % 2 === 0 ? "tcp" : "udp", port: 800 + i }) + (i % 3 === 0 ? '{"half' : ""))
        .catch(() => undefined); // one too many is turned away
      await wire.close();
    }
    for (let i = 0; i < 10; i++) {
      const victim = await Peer.start(t, USERS.alice);
      await (await victim.connect()).send(request("bind", { protocol: "tcp", port: 80 }));
      await victim.kill();
    }
  });
});

for (const [what, line] of [
  ["status", request("status", {}, "again")],
  ["descriptors", request("bind", { protocol: "tcp", port: 80, share: true }, "again")],
] as const)
  test(`a peer that asks for ${what} on and on and never reads is not read any more; memory and descriptors stay`, async (t) => {
    const rules = [{ ...WEB_RULE, maxSockets: 1_000_000 }];
    const config = { limits: { ...GENEROUS.limits, socketsPerUid: 1_000_000 } };
    await outlive(t, { config, rules }, async (alice, helper) => {
      const wires = [];
      for (let i = 0; i < 4; i++) wires.push(await alice.connect());
      for (const wire of wires) await wire.ask("status");
      const [fds, memory] = [helper.fd_count(), helper.memory()];
      const limit = 20_000_000;
      for (const { conn } of wires) {
        const sent = await alice.do<number>("flood", { conn, text: line, limit });
        assert.ok(sent < limit, "the kernel's buffers are full, so the helper has stopped reading");
      }
      assert.ok(helper.fd_count() <= fds + 1, `${helper.fd_count()} descriptors, ${fds} before`);
      assert.ok(helper.memory() - memory < 64 * 1024, `${helper.memory()} KiB, ${memory} before`);
    });
  });

test("a crowd that connects and leaves at once is let go, recorded or counted", async (t) => {
  await outlive(t, {}, async (alice, helper) => {
    const crowd = [alice, await Peer.start(t, USERS.alice), await Peer.start(t, USERS.carol)];
    const code = `
for i in range(500):
    s = socket.socket(socket.AF_UNIX)
    s.connect("/run/lowport/lowport.sock")
    s.close()`;
    await Promise.all(crowd.map((peer) => peer.do("attempt", { code })));
    const connects = helper.audit().filter((line) => line.event === "connect" && line.decision === "allow").length;
    assert.ok(connects > 0, `${connects} were let in`);
  });
});

test("descriptors on their way to one peer that never reads delay another's, and do not cost it any", async (t) => {
  const helper = await start_helper(t, { wrapper: ["prlimit", "--nofile=48:48"], config: GENEROUS });
  const [alice, carol] = [await Peer.start(t, USERS.alice), await Peer.start(t, USERS.carol)];
  const never = [];
  for (let i = 0; i < 4; i++) never.push(await alice.connect());
  // One socket, asked for 15 times over each connection: more than RLIMIT_NOFILE on their way, in few descriptors (unix(7)).
  for (const wire of never) await wire.send(request("bind", { protocol: "tcp", port: 80, share: true }).repeat(15));
  const wire = await carol.connect();
  await wire.send(request("bind", { protocol: "tcp", port: 443 }, "late"));
  await helper.recorded("the grant", (line) => line.id === "late" && line.decision === "allow");
  for (const one of never) await one.close();
  const { error, fds } = await wire.reply();
  assert.deepEqual([error, fds.length], [undefined, 1]);
  const cut_off = helper.audit().filter(({ reason }) => /109|ETOOMANYREFS/.test(reason ?? ""));
  assert.deepEqual(cut_off, [], "nobody was cut off for it");
});
