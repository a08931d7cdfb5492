/**
 * Promise: an operator's revoke really takes a socket back. New connections and all datagrams stop, the holder cannot
 * undo it, and connections that are established live on.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { start_helper, verify_chain } from "./helper-process.js";
import { fetch_from, Peer } from "./peer.js";

await enter_box(import.meta.url);

test("TCP: new connections fail, listen() does not help, the filter stays, who is connected stays", async (t) => {
  const helper = await start_helper(t);
  const [alice, browser, olaf] = [
    await Peer.start(t, USERS.alice),
    await Peer.start(t, USERS.bob),
    await Peer.start(t, USERS.olaf),
  ];
  const wire = await alice.connect();
  const { fd, lease } = await wire.bind({ port: 80 });
  await fetch_from(browser, alice, fd, "127.0.0.1", 80);
  const far = await browser.do<number>("dial", { address: "127.0.0.1", port: 80 });
  const near = await alice.do<number>("accept", { sock: fd });

  const operator = await olaf.connect();
  assert.deepEqual((await operator.ask("revoke", { lease })).result, { revoked: true });

  const dial = () => browser.do("dial", { address: "127.0.0.1", port: 80, timeout: 0.5 });
  await assert.rejects(dial(), { name: "Error" });
  await alice.do("listen", { sock: fd }).catch(() => undefined);
  await assert.rejects(dial(), { name: "Error" });
  await assert.rejects(alice.do("detach_filter", { sock: fd }), { code: "EPERM" });
  await browser.do("say", { sock: far, text: "still here" });
  assert.equal(await alice.do("hear", { sock: near }), "still here");
  await alice.do("say", { sock: near, text: "me too" });
  assert.equal(await browser.do("hear", { sock: far }), "me too");

  assert.deepEqual((await wire.ask("list")).result.leases, []);
  const end = await helper.recorded("the end", (line) => line.event === "lease-end");
  assert.match(end.reason ?? "", /revoked by uid 2004/);
  const call = await helper.recorded("the call", (line) => line.method === "revoke");
  assert.deepEqual([call.decision, call.lease], ["allow", lease]);
  assert.ok(call.seq < end.seq);
  verify_chain();
});

test("UDP: no datagram arrives any more, and the filter stays", async (t) => {
  await start_helper(t);
  const [alice, sender, olaf] = [
    await Peer.start(t, USERS.alice),
    await Peer.start(t, USERS.bob),
    await Peer.start(t, USERS.olaf),
  ];
  const wire = await alice.connect();
  const { fd, lease } = await wire.bind({ protocol: "udp", port: 80 });
  const send = (text: string) => sender.do("datagram", { address: "127.0.0.1", port: 80, text });
  await send("one");
  assert.equal(await alice.do("hear_datagram", { sock: fd }), "one");
  assert.deepEqual((await (await olaf.connect()).ask("revoke", { lease })).result, { revoked: true });
  await send("two"); // over loopback it is there, or dropped, before send() returns
  await assert.rejects(alice.do("hear_datagram", { sock: fd, timeout: 0.3 }), { name: "Error" });
  await assert.rejects(alice.do("detach_filter", { sock: fd }), { code: "EPERM" });
});

test("only an operator may, and a lease that is gone is ENOENT", async (t) => {
  await start_helper(t);
  const alice = await Peer.start(t, USERS.alice);
  const wire = await alice.connect();
  const { lease, fd } = await wire.bind({ port: 80 });
  await wire.refused("revoke", { lease }, 1, "EACCES");
  await wire.ask("release", { lease });
  assert.equal((await alice.info(fd)).listening, true);
  await (await (await Peer.start(t, USERS.olaf)).connect()).refused("revoke", { lease }, 6, "ENOENT");
});
