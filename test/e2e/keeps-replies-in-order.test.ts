/**
 * Promise: one reply a request, in the order of the requests, with its descriptors on its first byte, however the bytes
 * came; and exactly what protocol.md says of lines, batches, notifications and ids.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { start_helper, verify_chain } from "./helper-process.js";
import { Peer, type Reply, request } from "./peer.js";

await enter_box(import.meta.url);

const MAX_LINE = 65_536;
const item = (id: unknown, method = "status", params?: unknown) => ({ jsonrpc: "2.0", id, method, params });

test("pipelined requests are answered in order, each with its own descriptors", async (t) => {
  await start_helper(t);
  const alice = await Peer.start(t, USERS.alice);
  const wire = await alice.connect();
  const kinds = ["bind", "status", "denied", "check", "nosuch"];
  const requests = Array.from({ length: 100 }, (_, i) => {
    const kind = kinds[i % 5] as string;
    const port = kind === "denied" ? 22 : 800 + i;
    return request(kind === "denied" ? "bind" : kind, kind === "status" ? {} : { protocol: "tcp", port }, `${kind} ${i}`);
  });
  await wire.send(requests.join(""));
  const fds: number[] = [];
  for (let i = 0; i < 100; i++) {
    const { text, fds: came } = await wire.line();
    const { id, result, error } = JSON.parse(text) as Reply;
    const kind = kinds[i % 5] as string;
    assert.equal(id, `${kind} ${i}`);
    fds.push(...came);
    if (kind === "bind") assert.equal((await alice.info(fds.shift() as number)).port, result.port);
    if (kind === "bind") assert.equal(result.port, 800 + i);
    if (kind === "denied") assert.equal(error?.code, 1);
    if (kind === "nosuch") assert.equal(error?.code, -32601);
  }
  assert.deepEqual(fds, []);
});

test("descriptors come on the first byte of their line, a batch's all at once", async (t) => {
  await start_helper(t);
  const alice = await Peer.start(t, USERS.alice);
  const wire = await alice.connect();
  const first_byte = () => alice.do("one_byte", { conn: wire.conn });
  await wire.send(request("status") + request("bind", { protocol: "tcp", port: 80 }));
  assert.deepEqual(await first_byte(), { byte: "{", fds: 0 });
  for (let byte = ""; byte !== "\n"; ) ({ byte } = await alice.do<{ byte: string }>("one_byte", { conn: wire.conn }));
  assert.deepEqual(await first_byte(), { byte: "{", fds: 1 });
  await wire.line(); // what is left of the first
  await wire.line();
  const binds = [801, 802].map((port, i) => item(i, "bind", { protocol: "udp", port }));
  await wire.send(`${JSON.stringify([binds[0], item("s"), binds[1]])}\n`);
  assert.deepEqual(await first_byte(), { byte: "[", fds: 2 });
  const { text, fds } = await wire.line();
  assert.deepEqual(
    (JSON.parse(text) as Reply[]).map(({ id }) => id),
    [0, "s", 1],
  );
  assert.deepEqual(await Promise.all(fds.map(async (fd) => (await alice.info(fd)).port)), [801, 802]);
});

test("a batch has up to 16 requests; more, or none, is one -32600", async (t) => {
  await start_helper(t);
  const alice = await Peer.start(t, USERS.alice);
  const wire = await alice.connect();
  const batch = (length: number) => Array.from({ length }, (_, i) => item(i, "bind", { protocol: "tcp", port: 800 + i }));
  await wire.send(`${JSON.stringify(batch(16))}\n`);
  const { text, fds } = await wire.line();
  const replies = JSON.parse(text) as Reply[];
  assert.deepEqual(
    replies.map(({ id, result }) => [id, result?.port]),
    Array.from({ length: 16 }, (_, i) => [i, 800 + i]),
  );
  assert.deepEqual(
    await Promise.all(fds.map(async (fd) => (await alice.info(fd)).port)),
    Array.from({ length: 16 }, (_, i) => 800 + i),
  );
  for (const length of [17, 0, 1000]) {
    await wire.send(`${JSON.stringify(batch(length))}\n`);
    const reply = await wire.reply();
    assert.deepEqual([reply.error?.code, reply.id, reply.fds], [-32600, null, []]);
  }
});

test("what is wrong in a batch is answered in its place", async (t) => {
  await start_helper(t);
  const wire = await (await Peer.start(t, USERS.alice)).connect();
  await wire.send(`${JSON.stringify([1, item(1), null, [], {}, item(2, "nosuch"), { ...item(3), extra: 1 }, item("z")])}\n`);
  const replies = JSON.parse((await wire.line()).text) as Reply[];
  assert.deepEqual(
    replies.map(({ id, error }) => [id, error?.code]),
    [
      [null, -32600],
      [1, undefined],
      [null, -32600],
      [null, -32600],
      [null, -32600],
      [2, -32601],
      [3, -32600],
      ["z", undefined],
    ],
  );
});

test("a notification is never executed and never answered, and is on record as refused", async (t) => {
  const helper = await start_helper(t);
  const wire = await (await Peer.start(t, USERS.alice)).connect();
  const bind = { jsonrpc: "2.0", method: "bind", params: { protocol: "tcp", port: 80 } };
  await wire.send(`${JSON.stringify(bind)}\n${JSON.stringify([bind, bind])}\n${JSON.stringify([bind, item("in batch")])}\n`);
  assert.deepEqual(
    (JSON.parse((await wire.line()).text) as Reply[]).map(({ id }) => id),
    ["in batch"],
  );
  assert.deepEqual((await wire.ask("list")).result, { leases: [] });
  const records = helper.audit().filter((line) => line.method === "bind");
  assert.deepEqual(
    records.map(({ decision, code, id }) => [decision, code, id]),
    Array(4).fill(["invalid", -32600, undefined]),
  );
});

test("an id is a string of up to 128 characters or a safe integer, and comes back as it was", async (t) => {
  await start_helper(t);
  const wire = await (await Peer.start(t, USERS.alice)).connect();
  const max = Number.MAX_SAFE_INTEGER;
  for (const id of ["", "x".repeat(128), 'ü"\\\n\u2028', "1", 0, -1, max, -max]) {
    await wire.send(request("status", {}, id));
    assert.strictEqual((await wire.reply()).id, id);
  }
  for (const id of [
    '"' + "x".repeat(129) + '"',
    "null",
    "true",
    "1.5",
    "9007199254740992",
    "-9007199254740992",
    "1e400",
    "{}",
    "[1]",
  ]) {
    await wire.send(`{"jsonrpc":"2.0","method":"status","id":${id}}\n`);
    const reply = await wire.reply();
    assert.deepEqual([reply.error?.code, reply.id], [-32600, null], id);
  }
});

test("a line may have 65,536 bytes and come in any pieces; a longer one is refused and ends the connection", async (t) => {
  const helper = await start_helper(t);
  const alice = await Peer.start(t, USERS.alice);
  const wire = await alice.connect();
  const padded = (length: number) => request("status", {}, "p").trimEnd().padEnd(length, " ");
  await wire.send(`${padded(MAX_LINE)}\n`);
  assert.equal((await wire.reply()).id, "p");
  for (const byte of request("status", {}, "slow")) await wire.send(byte);
  assert.equal((await wire.reply()).id, "slow");
  for (const text of [
    `${padded(MAX_LINE + 1)}\n`,
    "x".repeat(MAX_LINE + 1),
    `${request("status", {}, "b")}${"[".repeat(200_000)}`,
  ]) {
    const doomed = await alice.connect();
    await doomed.send(text).catch(() => undefined); // it may be closed before all of it is sent
    const { text: answer, how } = await doomed.rest();
    const lines = answer.trimEnd().split("\n");
    const { error, id } = JSON.parse(lines.at(-1) as string) as Reply;
    assert.deepEqual([error?.code, id, how], [-32600, null, "end"]);
    assert.equal(lines.length, text.startsWith("x") || text.length < 70_000 ? 1 : 2);
  }
  await helper.recorded("why", (line) => line.event === "disconnect" && /too long/.test(line.reason ?? ""));
  assert.equal((await wire.ask("status")).error, undefined);
  verify_chain();
});

test("a line unfinished for 10 s ends the connection, however slowly it goes on; an idle connection stays", async (t) => {
  const helper = await start_helper(t);
  const [alice, bob] = [await Peer.start(t, USERS.alice), await Peer.start(t, USERS.bob)];
  const [idle, slow] = [await bob.connect(), await alice.connect()];
  await slow.send('{"jsonrpc":');
  const drip = setInterval(() => void slow.send(" ").catch(() => undefined), 1000);
  t.after(() => clearInterval(drip));
  const started = performance.now();
  await helper.recorded(
    "the end",
    ({ event, reason }) => event === "disconnect" && /not finished within 10 s/.test(reason ?? ""),
  );
  const seconds = (performance.now() - started) / 1000;
  clearInterval(drip);
  assert.ok(seconds > 9 && seconds < 15, `${seconds} s`);
  assert.equal((await idle.ask("status")).error, undefined);
});

test("who closes its sending half still gets its replies and descriptors, then the end", async (t) => {
  const helper = await start_helper(t);
  const alice = await Peer.start(t, USERS.alice);
  const wire = await alice.connect();
  await wire.send(request("bind", { protocol: "tcp", port: 80 }) + request("status", {}, "last"));
  await wire.shutdown(1);
  const { fds } = await wire.reply();
  assert.equal((await alice.info(fds[0] as number)).port, 80);
  assert.equal((await wire.reply()).id, "last");
  assert.deepEqual(await wire.rest(), { text: "", how: "end" });
  await helper.recorded("the end of the lease", (line) => line.event === "lease-end");
});
