/**
 * Promise: identity is the kernel's word about connect(). Nothing that a peer says, and nothing that it does after
 * connect(), makes it another user.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, copyFileSync } from "node:fs";
import { test } from "node:test";
import { DEFAULT_SOCKET } from "../../shared/protocol.js";
import { enter_box, USERS } from "./box.js";
import { start_helper } from "./helper-process.js";
import { Peer, request, Wire } from "./peer.js";

await enter_box(import.meta.url);

const BIND = { protocol: "tcp", port: 80 };
const AS_ALICE = ["setpriv", "--reuid=2001", "--regid=2001", "--groups=990"];

test("ids in params are refused, not ignored", async (t) => {
  await start_helper(t);
  const wire = await (await Peer.start(t, USERS.bob)).connect();
  for (const name of ["uid", "gid", "groups", "pid", "peer", "user"]) {
    const data = await wire.refused("bind", { ...BIND, [name]: 0 }, -32602);
    assert.equal(data["path"], `/${name}`);
  }
  await wire.refused("check", { ...BIND, uid: 0 }, 1, "EACCES");
  const smuggled = { jsonrpc: "2.0", id: 1, method: "bind", params: BIND, uid: 2001 };
  await wire.send(`${JSON.stringify(smuggled)}\n`);
  assert.equal((await wire.reply()).error?.code, -32600);
  const { you } = (await wire.ask("status")).result;
  assert.deepEqual(you, { uid: 2002, gid: 2002, groups: [990], operator: false });
});

test("root inside a user namespace of one's own is still oneself", async (t) => {
  await start_helper(t);
  const namespace = ["unshare", "--user", "--map-root-user"];
  if (spawnSync("setpriv", [...AS_ALICE.slice(1), ...namespace, "true"]).status !== 0)
    return t.skip("this kernel lets no ordinary user make a user namespace: sysctl kernel.unprivileged_userns_clone=1");
  const alice = await Peer.start(t, USERS.alice, [...AS_ALICE, ...namespace]);
  assert.equal(await alice.do("attempt", { code: "result = os.geteuid()" }), 0);
  const wire = await alice.connect();
  const { you } = (await wire.ask("status")).result;
  assert.equal(you.uid, 2001);
  assert.equal(you.gid, 2001);
  assert.equal(you.operator, false);
  await wire.refused("revoke", { lease: "x" }, 1, "EACCES");
  await wire.bind({ port: 80 });
});

test("a child of another uid that inherits the connection speaks as who connected", async (t) => {
  await start_helper(t);
  const root = await Peer.start(t, USERS.root);
  const { uid, gid, groups } = USERS.bob;
  const wire = new Wire(root, await root.do("connect_as", { path: DEFAULT_SOCKET, uid, gid, groups }));
  for (const user of [USERS.root, USERS.alice]) {
    await root.do("use_as", { conn: wire.conn, uid: user.uid, text: request("status", {}, "who") });
    const { result } = await wire.reply();
    assert.deepEqual(result.you, { uid, gid, groups: [990], operator: false });
    await root.do("use_as", { conn: wire.conn, uid: user.uid, text: request("bind", BIND, "bind") });
    assert.equal((await wire.reply()).error?.data?.["code"], "EACCES");
  }
});

test("a setuid program that gets the connection lends it no rights", async (t) => {
  await start_helper(t);
  const bob = await Peer.start(t, USERS.bob);
  const wire = await bob.connect();
  for (const owner of [USERS.alice, USERS.root]) {
    const program = `/run/python-of-${owner.name}`;
    copyFileSync("/usr/bin/python3", program);
    chownSync(program, owner.uid, owner.gid);
    chmodSync(program, 0o4755);
    const text = request("bind", BIND, "bind");
    assert.equal(await bob.do("use_by_program", { conn: wire.conn, program, text }), owner.uid);
    assert.equal((await wire.reply()).error?.data?.["code"], "EACCES");
  }
});

test("a connection that another user took over still belongs to who made it, and so does what it gets", async (t) => {
  await start_helper(t);
  const [alice, bob] = [await Peer.start(t, USERS.alice), await Peer.start(t, USERS.bob)];
  const made = await alice.connect();
  await alice.do("attempt", {
    code: `s = socket.socket(socket.AF_UNIX); s.bind("\\0hand-over"); s.listen(1); socks["over"] = s`,
  });
  const over = await bob.do<number>("connect", { path: "\0hand-over" });
  await alice.do("attempt", { code: `c = socks["over"].accept()[0]; socket.send_fds(c, [b"x\\n"], [${made.conn}])` });
  const { fds } = await bob.do<{ fds: number[] }>("line", { conn: over });
  await bob.do("attempt", { code: `buffers[${fds[0]}] = b""; queues[${fds[0]}] = []` });
  const taken = new Wire(bob, fds[0] as number);
  const { lease } = await taken.bind({ port: 80 });
  const { leases } = (await made.ask("list")).result;
  assert.deepEqual(
    leases.map((one: { lease: string; uid: number }) => [one.lease, one.uid]),
    [[lease, 2001]],
  );
});
