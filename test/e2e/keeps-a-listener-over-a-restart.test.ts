/**
 * Promise: a lease lives as long as its owner's connection, and then for its `hold`: the kernel goes on queueing
 * connections, and the same user asking again gets the same socket, so that a restart drops nobody.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { start_helper, until } from "./helper-process.js";
import { fetch_from, Peer, type Wire } from "./peer.js";

await enter_box(import.meta.url);

const leases_of = async (wire: Wire) => (await wire.ask("list")).result.leases;

test("a lease ends with its connection, the helper's descriptor with it; the app's own copy serves on", async (t) => {
  const helper = await start_helper(t);
  const [alice, browser] = [await Peer.start(t, USERS.alice), await Peer.start(t, USERS.bob)];
  const watch = await alice.connect();
  await watch.ask("status"); // so that it has been accepted
  const before = helper.fd_count();
  const wire = await alice.connect();
  const { fd, lease } = await wire.bind({ port: 80 });
  assert.equal(helper.fd_count(), before + 2);
  await wire.close();
  const end = await helper.recorded("the end", (line) => line.event === "lease-end");
  assert.equal(end.lease, lease);
  assert.equal(end.rule, "web");
  assert.equal(end.peer?.uid, 2001);
  assert.deepEqual(await leases_of(watch), []);
  assert.equal(helper.fd_count(), before);
  assert.equal((await fetch_from(browser, alice, fd, "127.0.0.1", 80)).body, "hello");
  await alice.close(fd);
  await watch.bind({ port: 80 });
});

for (const how of ["closes", "is killed"])
  test(`hold keeps the socket when its owner ${how}, and who connects meanwhile is served after the resume`, async (t) => {
    const helper = await start_helper(t);
    const browser = await Peer.start(t, USERS.bob);
    const olaf = await (await Peer.start(t, USERS.olaf)).connect();
    let app = await Peer.start(t, USERS.alice);
    const wire = await app.connect();
    const first = await wire.bind({ port: 80, hold: 60, label: "shop" });
    const { inode } = await app.info(first.fd);
    if (how === "closes") {
      await app.close(first.fd);
      await wire.close();
    } else await app.kill();
    const held = await until("the lease is held", async () => {
      const [entry] = await leases_of(olaf);
      return entry.state === "held" && entry;
    });
    const { since, ...entry } = held;
    assert.match(since, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    assert.deepEqual(entry, {
      lease: first.lease,
      uid: 2001,
      protocol: "tcp",
      address: "::",
      port: 80,
      state: "held",
      label: "shop",
      hold: 60,
    });
    const waiting = await browser.do<number>("dial", { address: "127.0.0.1", port: 80 });
    await browser.do("say", { sock: waiting, text: "GET / HTTP/1.1\r\n\r\n" });

    app = await Peer.start(t, USERS.alice);
    const second = await (await app.connect()).bind({ port: 80, hold: 60 });
    assert.equal(second.resumed, true);
    assert.equal(second.lease, first.lease);
    assert.equal((await app.info(second.fd)).inode, inode, "the same socket");
    const conn = await app.do("accept", { sock: second.fd });
    await app.do("answer", { conn, text: "resumed" });
    assert.match((await browser.do<{ text: string }>("rest_of", { sock: waiting })).text, /resumed$/);
    assert.equal((await leases_of(olaf))[0].state, "active");
    assert.equal(helper.audit().filter((line) => line.event === "lease-end").length, 0);
  });

test("another user does not get a held socket, nor its port", async (t) => {
  await start_helper(t);
  const alice = await Peer.start(t, USERS.alice);
  const wire = await alice.connect();
  const { fd } = await wire.bind({ port: 80, hold: 60 });
  await alice.close(fd);
  await wire.close();
  const carol = await (await Peer.start(t, USERS.carol)).connect();
  await carol.refused("bind", { protocol: "tcp", port: 80 }, 2, "EADDRINUSE");
  await carol.refused("bind", { protocol: "tcp", port: 80, share: true }, 2, "EADDRINUSE");
  await carol.refused("bind", { protocol: "tcp", port: 80, reusePort: true }, 2, "EADDRINUSE");
  assert.deepEqual(await leases_of(carol), []);
});

test("when the hold is over the port is free", async (t) => {
  const helper = await start_helper(t);
  const alice = await Peer.start(t, USERS.alice);
  const wire = await alice.connect();
  const { fd } = await wire.bind({ port: 80, hold: 1 });
  await alice.close(fd);
  await wire.close();
  const end = await helper.recorded("the end", (line) => line.event === "lease-end");
  assert.match(end.reason ?? "", /within 1 s/);
  await (await (await Peer.start(t, USERS.carol)).connect()).bind({ port: 80 });
});

test("a listener that its owner shut down is not resumed to anyone", async (t) => {
  const helper = await start_helper(t);
  const alice = await Peer.start(t, USERS.alice);
  const wire = await alice.connect();
  const first = await wire.bind({ port: 80, hold: 60 });
  await alice.do("shutdown", { sock: first.fd, how: 2 });
  await alice.close(first.fd);
  await wire.close();
  const again = await (await alice.connect()).bind({ port: 80, hold: 60 });
  assert.equal(again.resumed, false);
  assert.notEqual(again.lease, first.lease);
  assert.equal((await alice.info(again.fd)).listening, true);
  await helper.recorded("the end", (line) => line.event === "lease-end" && line.lease === first.lease);
});

test("share gives one more reference to the same socket; it lives until the last is gone", async (t) => {
  const helper = await start_helper(t);
  const alice = await Peer.start(t, USERS.alice);
  const [one, two] = [await alice.connect(), await alice.connect()];
  const first = await one.bind({ port: 80 });
  await two.refused("bind", { protocol: "tcp", port: 80 }, 2, "EADDRINUSE");
  const second = await two.bind({ port: 80, share: true });
  assert.equal(second.lease, first.lease);
  assert.equal(second.resumed, false);
  assert.equal((await alice.info(second.fd)).inode, (await alice.info(first.fd)).inode);
  await one.close();
  await helper.recorded("the disconnect", (line) => line.event === "disconnect");
  assert.equal((await leases_of(two)).length, 1);
  await two.close();
  await helper.recorded("the end", (line) => line.event === "lease-end" && line.lease === first.lease);
});

test("release gives the socket up at once, whatever its hold; somebody else's lease does not exist", async (t) => {
  const helper = await start_helper(t);
  const alice = await Peer.start(t, USERS.alice);
  const wire = await alice.connect();
  const { lease, fd } = await wire.bind({ port: 80, hold: 60 });
  const carol = await (await Peer.start(t, USERS.carol)).connect();
  const { reason } = await carol.refused("release", { lease }, 6, "ENOENT");
  const unknown = await carol.refused("release", { lease: "x".repeat(lease.length) }, 6, "ENOENT");
  assert.equal((reason as string).replace(lease, ""), (unknown["reason"] as string).replace(/x{4,}/, ""));
  const before = helper.fd_count();
  assert.deepEqual((await wire.ask("release", { lease })).result, { released: true });
  assert.equal(helper.fd_count(), before - 1);
  await alice.close(fd);
  await carol.bind({ port: 80 });
  await wire.refused("release", { lease }, 6, "ENOENT");
});

test("a held lease can be released over another connection of its owner", async (t) => {
  await start_helper(t);
  const alice = await Peer.start(t, USERS.alice);
  const [one, two] = [await alice.connect(), await alice.connect()];
  const { lease, fd } = await one.bind({ port: 80, hold: 60 });
  await alice.close(fd);
  await one.close();
  await until("it is held", async () => (await leases_of(two))[0].state === "held");
  assert.deepEqual((await two.ask("release", { lease })).result, { released: true });
  assert.equal((await two.bind({ port: 80 })).resumed, false);
});
