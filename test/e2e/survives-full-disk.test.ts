/**
 * Promise: nothing unrecorded is granted. While the audit log's disk is full every call is refused with EIO, no socket is
 * handed out and none stays bound; once there is room all goes on, and the record has no gap and no torn line.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chownSync, closeSync, mkdirSync, openSync, rmSync, writeSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { AUDIT_FOLDER, type Helper, start_helper, until, verify_chain } from "./helper-process.js";
import { Peer, type Wire } from "./peer.js";

await enter_box(import.meta.url);

const FILLER = `${AUDIT_FOLDER}/filler`;

async function start_on_small_disk(t: TestContext, config = {}): Promise<Helper> {
  mkdirSync(AUDIT_FOLDER, { recursive: true });
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=256k", "small", AUDIT_FOLDER]);
  assert.equal(mounted.status, 0, String(mounted.stderr));
  t.after(() => spawnSync("umount", ["-l", AUDIT_FOLDER]));
  chownSync(AUDIT_FOLDER, USERS.lowport.uid, USERS.lowport.gid);
  return start_helper(t, { config });
}

/** Takes all the room there is; what is left of the log's last page is used up by calls. */
async function fill_disk(wire: Wire): Promise<void> {
  const fd = openSync(FILLER, "w");
  try {
    for (;;) writeSync(fd, Buffer.alloc(4096));
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, "ENOSPC");
  } finally {
    closeSync(fd);
  }
  await until("calls are refused", async () => (await wire.ask("status")).error?.code === 7);
}

for (const durability of ["write", "fsync"])
  test(`with durability ${durability} a full disk refuses every call, and room again ends that`, async (t) => {
    const helper = await start_on_small_disk(t, { audit: { durability, syslog: false } });
    const [alice, bob, root] = [
      await Peer.start(t, USERS.alice),
      await Peer.start(t, USERS.bob),
      await Peer.start(t, USERS.root),
    ];
    const [wire, leaving] = [await alice.connect(), await alice.connect()];
    const held = await leaving.bind({ port: 443 });
    const { conn } = await helper.recorded("the grant", (line) => line.lease === held.lease);
    await fill_disk(wire);
    const before = helper.fd_count();
    for (const protocol of ["tcp", "udp"]) {
      const data = await wire.refused("bind", { protocol, port: 80, hold: 60 }, 7, "EIO");
      assert.match(data["reason"] as string, /ENOSPC/);
      await root.close(await root.do<number>("bind", { address: "::", port: 80, protocol }));
    }
    await wire.refused("bind", { protocol: "tcp", port: 443, share: true }, 7, "EIO");
    await wire.refused("release", { lease: held.lease }, 7, "EIO");
    await wire.refused("list", {}, 7, "EIO");
    assert.equal(helper.fd_count(), before, "no socket stayed");
    await leaving.close();
    await until("the lease has ended", () => helper.fd_count() === before - 2);
    const other = await bob.connect();
    await other.refused("status", {}, 7, "EIO");
    await helper.said("the audit log cannot be written; calls are refused");
    verify_chain();

    rmSync(FILLER);
    await helper.said("the audit log can be written again"); // by itself: it owes the disconnect
    await helper.recorded("the disconnect", (line) => line.event === "disconnect" && line.conn === conn);
    await helper.recorded("the end", (line) => line.event === "lease-end" && line.lease === held.lease);
    await helper.recorded("the connect", (line) => line.event === "connect" && line.peer?.uid === 2002);
    assert.deepEqual((await wire.ask("list")).result.leases, []);
    await wire.bind({ port: 80 });
    await other.ask("status");
    verify_chain();
  });

test("an operator's revoke that cannot be recorded is not done", async (t) => {
  await start_on_small_disk(t);
  const [alice, sender, olaf] = [
    await Peer.start(t, USERS.alice),
    await Peer.start(t, USERS.bob),
    await Peer.start(t, USERS.olaf),
  ];
  const { fd, lease } = await (await alice.connect()).bind({ protocol: "udp", port: 80 });
  const operator = await olaf.connect();
  await fill_disk(operator);
  await operator.refused("revoke", { lease }, 7, "EIO");
  await sender.do("datagram", { address: "127.0.0.1", port: 80, text: "still served" });
  assert.equal(await alice.do("hear_datagram", { sock: fd }), "still served");
});
