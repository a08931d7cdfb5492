/**
 * Promise: each refusal has its number, Node's name for it and a reason; limits say which and how much; and who has used
 * up a limit costs nobody else anything. (EACCES, EADDRINUSE, EADDRNOTAVAIL, ENOENT, EIO stand with their own promises.)
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { start_helper, until, verify_chain, WEB_RULE } from "./helper-process.js";
import { Peer, type Reply, request } from "./peer.js";

await enter_box(import.meta.url);

test("EDQUOT: a rule's maxSockets; a release makes room", async (t) => {
  await start_helper(t, { rules: [{ ...WEB_RULE, maxSockets: 2 }] });
  const [one, two] = await Promise.all([USERS.alice, USERS.carol].map(async (user) => (await Peer.start(t, user)).connect()));
  assert.ok(one && two);
  const { lease } = await one.bind({ port: 801 });
  await one.bind({ port: 802 });
  const { limit, max } = await one.refused("bind", { protocol: "tcp", port: 803 }, 4, "EDQUOT");
  assert.deepEqual([limit, max], ["maxSockets", 2]);
  await one.refused("bind", { protocol: "tcp", port: 802, share: true }, 4, "EDQUOT");
  await two.bind({ port: 803 }); // each user has a quota of its own
  await one.ask("release", { lease });
  await one.bind({ port: 804 });
});

test("EDQUOT: socketsPerUid over all rules, connections and held leases", async (t) => {
  const rules = [WEB_RULE, { ...WEB_RULE, name: "more", ports: ["900-999"] }];
  await start_helper(t, { rules, config: { limits: { socketsPerUid: 3 } } });
  const alice = await Peer.start(t, USERS.alice);
  const [one, two] = [await alice.connect(), await alice.connect()];
  await one.bind({ port: 801, hold: 60 });
  await one.bind({ port: 901 });
  await two.bind({ port: 902 });
  const over = { protocol: "tcp", port: 903 };
  const { limit, max } = await two.refused("bind", over, 4, "EDQUOT");
  assert.deepEqual([limit, max], ["socketsPerUid", 3]);
  await one.close(); // 801 is held and counts, 901 is free
  await until("801 is held", async () => (await two.ask("list")).result.leases.length === 2);
  await two.bind(over);
  await two.refused("bind", { protocol: "tcp", port: 904 }, 4, "EDQUOT");
});

test("EDQUOT: a hold beyond the rule's; beyond the protocol's it is -32602", async (t) => {
  await start_helper(t);
  const wire = await (await Peer.start(t, USERS.alice)).connect();
  const { limit, max } = await wire.refused("bind", { protocol: "tcp", port: 80, hold: 61 }, 4, "EDQUOT");
  assert.deepEqual([limit, max], ["maxHoldSeconds", 60]);
  await wire.refused("bind", { protocol: "tcp", port: 80, hold: 3601 }, -32602);
  await wire.bind({ port: 80, hold: 60 });
});

test("EACCES: options that the rule does not give", async (t) => {
  await start_helper(t, { rules: [{ ...WEB_RULE, reusePort: false, share: false }] });
  const wire = await (await Peer.start(t, USERS.alice)).connect();
  for (const option of ["reusePort", "share"]) {
    const data = await wire.refused("bind", { protocol: "tcp", port: 80, [option]: true }, 1, "EACCES");
    assert.match(data["reason"] as string, new RegExp(`"web" does not allow ${option}`));
  }
});

test("EDQUOT: the 17th connection of a uid is told so and closed; others and the 16 are not touched", async (t) => {
  const helper = await start_helper(t);
  const [alice, bob] = [await Peer.start(t, USERS.alice), await Peer.start(t, USERS.bob)];
  const wires = [];
  for (let i = 0; i < 16; i++) wires.push(await alice.connect());
  for (const wire of wires) await wire.ask("status");
  const before = helper.fd_count();
  for (let i = 0; i < 3; i++) {
    const { text, how } = await (await alice.connect()).rest();
    const { error, id } = JSON.parse(text) as Reply;
    assert.deepEqual([id, how, error?.code], [null, "end", 4]);
    const { code, limit, max } = error?.data ?? {};
    assert.deepEqual([code, limit, max], ["EDQUOT", "connectionsPerUid", 16]);
  }
  assert.equal(helper.fd_count(), before);
  assert.equal((await (await bob.connect()).ask("status")).error, undefined);
  await wires[0]?.close();
  await helper.recorded("the disconnect", (line) => line.event === "disconnect");
  assert.equal((await (await alice.connect()).ask("status")).error, undefined);
  verify_chain();
});

test("EDQUOT: connections in all", async (t) => {
  await start_helper(t, { config: { limits: { connections: 2 } } });
  const [alice, bob] = [await Peer.start(t, USERS.alice), await Peer.start(t, USERS.bob)];
  for (const peer of [alice, bob]) await (await peer.connect()).ask("status");
  const { error } = JSON.parse((await (await bob.connect()).rest()).text) as Reply;
  assert.deepEqual([error?.data?.["limit"], error?.data?.["max"]], ["connections", 2]);
});

test("EAGAIN: who asks too often is told how long to wait, and everyone else is served meanwhile", async (t) => {
  await start_helper(t, { config: { limits: { requestsPerSecond: 1, requestBurst: 5 } } });
  const [alice, bob] = [await Peer.start(t, USERS.alice), await Peer.start(t, USERS.bob)];
  const [greedy, other] = [await alice.connect(), await bob.connect()]; // a connection costs one of the five
  await greedy.send(Array.from({ length: 5 }, (_, i) => request("status", {}, i)).join(""));
  const replies: Reply[] = [];
  for (let i = 0; i < 5; i++) replies.push(await greedy.reply());
  assert.deepEqual(
    replies.map(({ id, error }) => [id, error?.code]),
    [
      [0, undefined],
      [1, undefined],
      [2, undefined],
      [3, undefined],
      [4, 5],
    ],
  );
  const { code, retryAfterMs } = replies[4]?.error?.data ?? {};
  assert.equal(code, "EAGAIN");
  assert.ok(Number.isInteger(retryAfterMs) && (retryAfterMs as number) > 0 && (retryAfterMs as number) <= 2000);
  assert.equal((await other.ask("status")).error, undefined);
  assert.equal((await greedy.ask("status")).error, undefined, "read only once there is a token for it");
});

test("EMFILE: out of descriptors it grants nothing, loses nothing, and goes on as soon as there are some", async (t) => {
  const helper = await start_helper(t, { wrapper: ["prlimit", "--nofile=40:40"] });
  const [alice, bob] = [await Peer.start(t, USERS.alice), await Peer.start(t, USERS.bob)];
  const wire = await alice.connect();
  const leases: string[] = [];
  let refused: Reply | undefined;
  for (let port = 800; refused === undefined && port < 860; port++) {
    const reply = await wire.ask("bind", { protocol: "tcp", port });
    if (reply.error === undefined) leases.push(reply.result.lease);
    else refused = reply;
  }
  assert.deepEqual([refused?.error?.code, refused?.error?.data?.["code"]], [9, "EMFILE"]);
  assert.deepEqual(refused?.fds, []);
  assert.equal((await wire.ask("list")).result.leases.length, leases.length);
  const late = await bob.connect(); // waits in the kernel's queue
  await late.send(request("status"));
  await helper.said("cannot accept; tries again soon");
  for (const lease of leases.splice(0, 3)) await wire.ask("release", { lease });
  assert.equal((await late.reply()).error, undefined);
  await wire.bind({ port: 890 });
  verify_chain();
});
