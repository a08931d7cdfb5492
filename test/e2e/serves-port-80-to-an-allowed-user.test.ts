/**
 * Promise: a program without any right serves port 80 if a rule says so, and its clients talk to it alone; who is named
 * by a supplementary group is named too.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { start_helper, verify_chain } from "./helper-process.js";
import { fetch_from, Peer } from "./peer.js";

await enter_box(import.meta.url);

for (const [user, why] of [
  [USERS.alice, "by name"],
  [USERS.carol, "by a supplementary group"],
] as const)
  test(`${user.name}, allowed ${why}, serves HTTP on port 80 and sees the true remote address`, async (t) => {
    const helper = await start_helper(t);
    const app = await Peer.start(t, user);
    const browser = await Peer.start(t, USERS.mallory);
    await assert.rejects(app.do("bind", { address: "::", port: 80 }), { code: "EACCES" });

    const wire = await app.connect();
    const { fd, lease } = await wire.bind({ port: 80 });

    const info = await app.info(fd);
    assert.deepEqual(
      { ...info, inode: 0 },
      {
        family: 6,
        protocol: "tcp",
        address: "::",
        port: 80,
        listening: true,
        inode: 0,
        nonblocking: true,
        ipv6Only: false,
      },
    );
    assert.deepEqual(await fetch_from(browser, app, fd, "::1", 80, "six"), { body: "six", remote: "::1" });
    assert.deepEqual(await fetch_from(browser, app, fd, "127.0.0.1", 80, "four"), {
      body: "four",
      remote: "::ffff:127.0.0.1",
    });

    const record = await helper.recorded("the grant", (line) => line.method === "bind");
    const { event, peer, decision, rule, params } = record;
    assert.deepEqual(
      { event, peer, decision, rule, params, lease: record.lease },
      {
        event: "call",
        peer: { pid: app.process.pid, uid: user.uid, gid: user.gid, groups: [...user.groups] },
        decision: "allow",
        rule: "web",
        params: { protocol: "tcp", port: 80 },
        lease,
      },
    );
    verify_chain();
  });

test("the socket goes on serving after the helper is gone, even if it was killed", async (t) => {
  const helper = await start_helper(t);
  const app = await Peer.start(t, USERS.alice);
  const { fd } = await (await app.connect()).bind({ port: 80 });
  await helper.stop("SIGKILL");
  assert.equal((await fetch_from(await Peer.start(t, USERS.bob), app, fd, "127.0.0.1", 80)).body, "hello");
});
