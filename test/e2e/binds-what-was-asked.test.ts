/**
 * Promise: the socket is the one that was asked for, TCP or UDP, IPv4, IPv6 or both; a rule for one family does not give
 * the other; and no port is shared with another user or program.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { start_helper, WEB_RULE } from "./helper-process.js";
import { fetch_from, Peer } from "./peer.js";

await enter_box(import.meta.url);

for (const [asked, canonical, family, ipv6Only] of [
  ["127.0.0.1", "127.0.0.1", 4, false],
  ["0.0.0.0", "0.0.0.0", 4, false],
  ["::ffff:127.0.0.1", "127.0.0.1", 4, false],
  ["::FFFF:7f00:1", "127.0.0.1", 4, false],
  ["::1", "::1", 6, false],
  ["0:0:0:0:0:0:0:1", "::1", 6, true],
  ["::", "::", 6, false],
  ["0::0", "::", 6, true],
] as const)
  for (const protocol of ["tcp", "udp"] as const)
    test(`${protocol} ${asked}${ipv6Only ? " (IPv6 only)" : ""} is ${canonical}`, async (t) => {
      await start_helper(t);
      const alice = await Peer.start(t, USERS.alice);
      const wire = await alice.connect();
      const reply = await wire.ask("bind", { protocol, port: 853, address: asked, ipv6Only });
      const { lease, ...result } = reply.result;
      assert.match(lease, /^[0-9A-Za-z_-]{1,64}$/);
      assert.deepEqual(result, { protocol, address: canonical, port: 853, resumed: false, fds: 1 });
      const { inode, ...info } = await alice.info(reply.fds[0] as number);
      assert.ok(inode > 0);
      const v6only = ipv6Only || canonical === "::1"; // ::1 can be nothing else, and the kernel says so
      const rest = { listening: protocol === "tcp", nonblocking: true, ipv6Only: v6only };
      assert.deepEqual(info, { family, protocol, address: canonical, port: 853, ...rest });
    });

test("dual-stack serves both families, IPv6 only serves one and leaves the other free", async (t) => {
  await start_helper(t);
  const [alice, browser] = [await Peer.start(t, USERS.alice), await Peer.start(t, USERS.bob)];
  const wire = await alice.connect();
  const six = await wire.bind({ port: 80, ipv6Only: true });
  await assert.rejects(browser.do("dial", { address: "127.0.0.1", port: 80 }), { code: "ECONNREFUSED" });
  const four = await wire.bind({ port: 80, address: "0.0.0.0" });
  assert.equal((await fetch_from(browser, alice, six.fd, "::1", 80, "6")).body, "6");
  assert.equal((await fetch_from(browser, alice, four.fd, "127.0.0.1", 80, "4")).body, "4");
  await wire.bind({ port: 443 });
  await wire.refused("bind", { protocol: "tcp", port: 443, address: "127.0.0.1" }, 2, "EADDRINUSE");
});

test("UDP datagrams of both families reach a dual-stack socket", async (t) => {
  await start_helper(t);
  const [alice, sender] = [await Peer.start(t, USERS.alice), await Peer.start(t, USERS.bob)];
  const { fd } = await (await alice.connect()).bind({ protocol: "udp", port: 853 });
  for (const address of ["127.0.0.1", "::1"]) {
    await sender.do("datagram", { address, port: 853, text: `to ${address}` });
    assert.equal(await alice.do("hear_datagram", { sock: fd }), `to ${address}`);
  }
});

test("a rule for IPv6 does not give IPv4: not by ::, not by a mapped address", async (t) => {
  await start_helper(t, { rules: [{ ...WEB_RULE, addresses: ["::/0"] }] });
  const wire = await (await Peer.start(t, USERS.alice)).connect();
  const { reason } = await wire.refused("bind", { protocol: "tcp", port: 80 }, 1, "EACCES");
  assert.match(reason as string, /0\.0\.0\.0.*ipv6Only/);
  for (const address of ["0.0.0.0", "127.0.0.1", "::ffff:127.0.0.1", "::ffff:0:0"])
    await wire.refused("bind", { protocol: "tcp", port: 80, address }, 1, "EACCES");
  assert.equal((await wire.ask("check", { protocol: "tcp", port: 80 })).result.allowed, false);
  await wire.bind({ port: 80, ipv6Only: true });
});

test("a rule for an IPv4 address holds for its mapped spelling, and gives no wildcard", async (t) => {
  await start_helper(t, { rules: [{ ...WEB_RULE, addresses: ["127.0.0.0/8"] }] });
  const wire = await (await Peer.start(t, USERS.alice)).connect();
  assert.equal((await wire.bind({ port: 80, address: "::ffff:127.0.0.9" })).address, "127.0.0.9");
  for (const address of ["0.0.0.0", "::", "::1", "128.0.0.1"])
    await wire.refused("bind", { protocol: "tcp", port: 80, address }, 1, "EACCES");
});

test("what is no IP literal, or no address of this host, is refused by name", async (t) => {
  await start_helper(t);
  const wire = await (await Peer.start(t, USERS.alice)).connect();
  for (const address of ["localhost", "127.1", "1.2.3.256", "0x7f.0.0.1", "010.0.0.1", "::1%lo", "", ":::", "127.0.0.1:80"]) {
    const data = await wire.refused("bind", { protocol: "tcp", port: 80, address }, -32602);
    assert.equal(data["path"], "/address", address);
  }
  for (const address of ["192.0.2.1", "2001:db8::1"]) {
    const { reason } = await wire.refused("bind", { protocol: "tcp", port: 80, address }, 3, "EADDRNOTAVAIL");
    assert.ok((reason as string).includes(address));
  }
});

test("a port of another program is EADDRINUSE, TCP and UDP, and stays that program's", async (t) => {
  const helper = await start_helper(t);
  const root = await Peer.start(t, USERS.root);
  const wire = await (await Peer.start(t, USERS.alice)).connect();
  await wire.ask("status"); // so that it has been accepted
  const before = helper.fd_count();
  for (const protocol of ["tcp", "udp"]) {
    await root.do("bind", { address: "127.0.0.1", port: 80, protocol, reuse_port: true });
    for (const more of [{}, { reusePort: true }, { share: true }, { address: "127.0.0.1", reusePort: true }])
      await wire.refused("bind", { protocol, port: 80, ...more }, 2, "EADDRINUSE");
  }
  assert.equal(helper.fd_count(), before);
});

// A port of their own: connections of the tests above are in TIME_WAIT on port 80, which the helper asks to be free.
test("reusePort gives one user several sockets, and never lets another in", async (t) => {
  await start_helper(t);
  const [alice, carol] = [await Peer.start(t, USERS.alice), await Peer.start(t, USERS.carol)];
  const [wire, other] = [await alice.connect(), await carol.connect()];
  for (const protocol of ["tcp", "udp"]) {
    const one = await wire.bind({ protocol, port: 870, reusePort: true });
    const two = await wire.bind({ protocol, port: 870, reusePort: true });
    assert.notEqual(one.lease, two.lease);
    assert.notEqual((await alice.info(one.fd)).inode, (await alice.info(two.fd)).inode);
    for (const address of ["::", "0.0.0.0", "127.0.0.1", "::1"])
      await other.refused("bind", { protocol, port: 870, address, reusePort: true }, 2, "EADDRINUSE");
    await assert.rejects(alice.do("bind", { address: "::", port: 870, protocol, reuse_port: true }), {
      code: "EACCES",
    });
  }
});

test("reusePort does not let another user in beside a socket that only the app has any more", async (t) => {
  const helper = await start_helper(t);
  const [alice, carol] = [await Peer.start(t, USERS.alice), await Peer.start(t, USERS.carol)];
  const wire = await alice.connect();
  const { lease } = await wire.bind({ port: 870, reusePort: true });
  await wire.ask("release", { lease }); // the helper has forgotten it; alice has not
  await helper.recorded("the end", (line) => line.event === "lease-end");
  const other = await carol.connect();
  await other.refused("bind", { protocol: "tcp", port: 870, reusePort: true }, 2, "EADDRINUSE");
});
