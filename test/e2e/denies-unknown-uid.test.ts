/**
 * Promise: default deny. Whom no rule names gets nothing, and is told what the nearest rule lacks; whom the control socket
 * does not let in gets no word at all.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { start_helper, verify_chain, WEB_RULE } from "./helper-process.js";
import { Peer } from "./peer.js";

await enter_box(import.meta.url);

test("a user that no rule names is denied, told why, and the denial is on record", async (t) => {
  const helper = await start_helper(t);
  const bob = await Peer.start(t, USERS.bob);
  const wire = await bob.connect();
  const data = await wire.refused("bind", { protocol: "tcp", port: 80 }, 1, "EACCES");
  assert.match(data["reason"] as string, /tcp \[::\]:80 .*uid 2002.*"web".* lacks this user in its users or groups/);
  const record = await helper.recorded("the denial", (line) => line.method === "bind");
  assert.equal(record.decision, "deny");
  assert.equal(record.code, "EACCES");
  assert.equal(record.reason, data["reason"]);
  assert.equal(record.rule, undefined);
  assert.equal(record.peer?.uid, 2002);
  verify_chain();
  // The port is free: nothing was bound on the way.
  const root = await Peer.start(t, USERS.root);
  await root.do("bind", { address: "::", port: 80 });
});

test("the reason names what the nearest rule lacks: protocol, port, address", async (t) => {
  const rules = [
    { ...WEB_RULE, protocols: ["tcp"], addresses: ["127.0.0.1", "10.0.0.0/8"] },
    { ...WEB_RULE, name: "dns", users: ["bob"], protocols: ["udp"], ports: [53], addresses: ["*"] },
  ];
  await start_helper(t, { rules });
  const wire = await (await Peer.start(t, USERS.alice)).connect();
  for (const [params, lacks] of [
    [{ protocol: "tcp", port: 81, address: "127.0.0.1" }, '"web", lacks 81 in its ports;'],
    [{ protocol: "udp", port: 80, address: "127.0.0.1" }, '"web", lacks udp in its protocols;'],
    [{ protocol: "tcp", port: 80, address: "127.0.0.2" }, '"web", lacks 127.0.0.2 in its addresses;'],
    [{ protocol: "tcp", port: 80, address: "0.0.0.0" }, '"web", lacks 0.0.0.0 in its addresses;'],
    [{ protocol: "udp", port: 53, address: "127.0.0.1" }, '"dns", lacks this user in its users or groups;'],
    [{ protocol: "udp", port: 81, address: "127.0.0.1" }, '"web", lacks udp in its protocols and 81 in its ports;'],
  ] as const) {
    const { reason } = await wire.refused("bind", params, 1, "EACCES");
    assert.ok((reason as string).includes(lacks), `${JSON.stringify(params)}: ${reason}`);
  }
});

test("without any rule everyone is denied, root and operators too", async (t) => {
  await start_helper(t, { rules: [] });
  for (const user of [USERS.root, USERS.alice, USERS.olaf]) {
    const wire = await (await Peer.start(t, user)).connect();
    const { reason } = await wire.refused("bind", { protocol: "tcp", port: 80 }, 1, "EACCES");
    assert.match(reason as string, /there are no rules/);
  }
});

test("who is not of the socket's group cannot even connect", async (t) => {
  await start_helper(t);
  await assert.rejects((await Peer.start(t, USERS.mallory)).connect(), { code: "EACCES" });
});
