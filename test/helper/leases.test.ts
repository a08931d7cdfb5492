/** The life of a lease, on real sockets of 127.0.0.1: grant, share, resume, hold, undo, release, revoke and end. */
import assert from "node:assert/strict";
import { readlinkSync } from "node:fs";
import { connect } from "node:net";
import { afterEach, type TestContext, test } from "node:test";
import { type Account, Accounts } from "../../helper/account.js";
import type { Grant, Lease } from "../../helper/lease.js";
import { LeaseTable } from "../../helper/leases.js";
import { new_id } from "../../helper/new-id.js";
import { LowportError, refusal } from "../../shared/errors.js";
import { native } from "../../shared/native.js";
import { LIMITS } from "../../shared/protocol.js";
import { count_descriptors, free_port, peer } from "../fixtures.js";

let ended: string[] = [];
const table = new LeaseTable((_lease, reason) => ended.push(reason));
let accounts = new Accounts();
new_id(); // opens what stays open
const before = count_descriptors();

/** After each test: everything is given back, and every counter is at 0 again. */
afterEach(() => {
  for (const lease of [...table.byId.values()]) table.end(lease, "the test is over");
  const left = [1, 2].map((uid) => accounts.of(uid, LIMITS)).map(({ sockets, byRule }) => [sockets, byRule.size]);
  accounts = new Accounts();
  ended = [];
  assert.deepEqual(left, [
    [0, 0],
    [0, 0],
  ]);
  assert.equal(count_descriptors(), before);
});

function grant(over: Partial<Grant> & { port: number }, uid = 1): Grant {
  return {
    ...{ protocol: "tcp", address: "127.0.0.1", ipv6Only: false, backlog: 16, reusePort: false },
    ...{ holder: {}, peer: peer(uid), account: accounts.of(uid, LIMITS), rule: "web" },
    ...{ share: false, hold: 0, label: "", check_quota: () => undefined },
    ...over,
  };
}
const account_of = (uid = 1): Account => accounts.of(uid, LIMITS);
const refused = (name: string) => (error: unknown) => error instanceof LowportError && error.data.code === name;
const socket_of = (lease: Lease) => readlinkSync(`/proc/self/fd/${lease.fd}`);
const quota_reached = () => {
  throw refusal("EDQUOT", "no more");
};

test("a grant is a listening socket that counts, and ends with its connection", () => {
  const holder = {};
  const port = free_port();
  const { lease, resumed } = table.grant(grant({ port, holder, label: "a" }));
  assert.deepEqual(native().socketInfo(lease.fd), [1, 1, port, "127.0.0.1", 0]);
  assert.deepEqual([resumed, table.byId.size, table.byId.get(lease.id), lease.label], [false, 1, lease, "a"]);
  assert.deepEqual([account_of().sockets, account_of().byRule.get("web")], [1, 1]);
  table.leave(holder);
  assert.deepEqual([table.byId.size, lease.fd, account_of().sockets], [0, -1, 0]);
  assert.deepEqual(ended, ["its owner's connection closed"]);
  table.leave(holder);
  table.end(lease, "again");
  assert.equal(ended.length, 1, "a lease ends once");
});

test("ids are long, random and of the protocol's letters", () => {
  const ids = Array.from({ length: 5 }, () => table.grant(grant({ port: free_port() })).lease.id);
  assert.equal(new Set(ids).size, 5);
  for (const id of ids) assert.match(id, /^[0-9A-Za-z_-]{16,64}$/);
});

test("the same socket again: EADDRINUSE for oneself without share and for another user with it", () => {
  const port = free_port();
  const { lease } = table.grant(grant({ port }));
  assert.throws(() => table.grant(grant({ port })), refused("EADDRINUSE"));
  assert.throws(() => table.grant(grant({ port, share: true }, 2)), refused("EADDRINUSE"));
  assert.throws(() => table.grant(grant({ port, address: "0.0.0.0", share: true })), refused("EADDRINUSE"));
  assert.deepEqual([table.byId.size, account_of().sockets, account_of(2).sockets], [1, 1, 0]);
  assert.equal(lease.references.size, 1);
});

test("share is one more reference to the same socket; the last one that leaves ends it", () => {
  const port = free_port();
  const [one, two] = [{}, {}];
  const { lease } = table.grant(grant({ port, holder: one }));
  const again = table.grant(grant({ port, holder: two, share: true }));
  assert.deepEqual([again.lease, again.resumed, account_of().sockets], [lease, false, 2]);
  assert.throws(() => table.grant(grant({ port, share: true, check_quota: quota_reached })), refused("EDQUOT"));
  assert.throws(() => table.grant(grant({ port, share: true, reusePort: true })), refused("EADDRINUSE"));
  table.leave(one);
  assert.deepEqual([table.byId.size, account_of().sockets], [1, 1]);
  table.leave(two);
  assert.deepEqual([table.byId.size, account_of().sockets], [0, 0]);
});

test("a held lease is the same socket for the same user, and queues connections meanwhile", async () => {
  const port = free_port();
  const holder = {};
  const { lease } = table.grant(grant({ port, holder, hold: 100 }));
  const socket = socket_of(lease);
  table.leave(holder);
  assert.deepEqual([lease.references.size, account_of().sockets, ended.length], [0, 1, 0]);
  const client = connect(port, "127.0.0.1");
  await new Promise<void>((resolve, reject) => client.once("connect", resolve).once("error", reject));
  client.destroy();
  assert.throws(() => table.grant(grant({ port }, 2)), refused("EADDRINUSE"));
  assert.throws(() => table.grant(grant({ port, ipv6Only: true })), refused("EADDRINUSE"));
  const resumed = table.grant(grant({ port, check_quota: quota_reached, label: "new", hold: 5 }));
  assert.deepEqual([resumed.resumed, resumed.lease, socket_of(lease)], [true, lease, socket]);
  assert.deepEqual([lease.hold, lease.label, account_of().sockets], [5, "new", 1]);
});

test("a lease that is held too long ends; one resumed in time does not", (t: TestContext) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const port = free_port();
  const [one, two] = [{}, {}];
  table.grant(grant({ port, holder: one, hold: 10 }));
  table.leave(one);
  t.mock.timers.tick(9_999);
  assert.equal(table.grant(grant({ port, holder: two, hold: 10 })).resumed, true);
  t.mock.timers.tick(60_000);
  assert.equal(table.byId.size, 1);
  table.leave(two);
  t.mock.timers.tick(10_000);
  assert.deepEqual([table.byId.size, ended], [0, ["its owner did not come back within 10 s"]]);
});

test("references that one connection has many of are counted one by one", () => {
  const port = free_port();
  const holder = {};
  const { lease } = table.grant(grant({ port, holder, hold: 10 }));
  for (let i = 0; i < 3; i++) table.grant(grant({ port, holder, share: true, hold: 10 }));
  assert.equal(account_of().sockets, 4);
  table.release(lease, holder);
  assert.equal(account_of().sockets, 3);
  table.leave(holder);
  assert.deepEqual([account_of().sockets, lease.references.size, table.byId.size], [1, 0, 1], "held: counts once");
});

test("release: one's reference, then the lease; one who has none (held, operator) ends it whole", () => {
  const port = free_port();
  const [one, two] = [{}, {}];
  const { lease } = table.grant(grant({ port, holder: one, hold: 50 }));
  table.grant(grant({ port, holder: two, share: true, hold: 50 }));
  table.release(lease, one);
  assert.deepEqual([table.byId.size, account_of().sockets], [1, 1]);
  table.release(lease, two);
  assert.deepEqual([table.byId.size, ended], [0, ["released"]], "not held: it was given up");
  const held = table.grant(grant({ port, holder: one, hold: 50 })).lease;
  table.leave(one);
  table.release(held, {});
  assert.equal(table.byId.size, 0);
  const active = table.grant(grant({ port, holder: one })).lease;
  table.release(active, {});
  assert.equal(table.byId.size, 0);
});

test("undo of a bind: as if it had not been, and no end is told", () => {
  const port = free_port();
  table.grant(grant({ port })).undo();
  assert.deepEqual([table.byId.size, account_of().sockets, ended.length], [0, 0, 0]);
  table.grant(grant({ port }));
});

test("undo of a share: the others keep theirs, and its hold is what it was", () => {
  const port = free_port();
  const { lease } = table.grant(grant({ port, hold: 0 }));
  const { undo } = table.grant(grant({ port, share: true, hold: 100 }));
  undo();
  assert.deepEqual([table.byId.size, account_of().sockets, lease.references.size, lease.hold], [1, 1, 1, 0]);
});

test("undo of a resume: held again, for as long and under the name as before", (t: TestContext) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const port = free_port();
  const holder = {};
  const { lease } = table.grant(grant({ port, holder, hold: 10, label: "a" }));
  table.leave(holder);
  const { undo } = table.grant(grant({ port, hold: 99, label: "b" }));
  undo();
  assert.deepEqual([lease.hold, lease.label, lease.references.size, account_of().sockets], [10, "a", 0, 1]);
  t.mock.timers.tick(10_000);
  assert.equal(table.byId.size, 0);
});

test("undo of a resume that others have shared since leaves them theirs", (t: TestContext) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const port = free_port();
  const holder = {};
  table.grant(grant({ port, holder, hold: 10 }));
  table.leave(holder);
  const { undo } = table.grant(grant({ port, hold: 10 }));
  table.grant(grant({ port, share: true, hold: 10 }));
  undo();
  assert.equal(account_of().sockets, 1);
  t.mock.timers.tick(60_000);
  assert.equal(table.byId.size, 1, "an active lease does not run out");
});

test("undo after all is over does nothing", () => {
  const port = free_port();
  const holder = {};
  const grants = [table.grant(grant({ port, holder })), table.grant(grant({ port, holder, share: true }))];
  table.leave(holder);
  const again = table.grant(grant({ port })).lease;
  for (const { undo } of grants.toReversed()) undo();
  assert.deepEqual([account_of().sockets, again.fd >= 0], [1, true]);
});

test("a listener that its holder shut down is not resumed to anyone", () => {
  const port = free_port();
  const holder = {};
  const { lease } = table.grant(grant({ port, holder, hold: 50 }));
  table.leave(holder);
  // revokeSocket shuts it down as a holder's shutdown() would: it no longer listens.
  assert.equal(native().revokeSocket(lease.fd), 0);
  const { lease: fresh, resumed } = table.grant(grant({ port }));
  assert.deepEqual([resumed, fresh === lease, table.byId.size], [false, false, 1]);
  assert.deepEqual(ended, ["its listener was shut down by its holder"]);
});

test("reusePort: the same user may have several sockets, another none", () => {
  const port = free_port();
  table.grant(grant({ port, reusePort: true }));
  table.grant(grant({ port, reusePort: true }));
  assert.deepEqual([table.byId.size, account_of().sockets], [2, 2]);
  assert.throws(() => table.grant(grant({ port, reusePort: true }, 2)), refused("EADDRINUSE"));
  assert.throws(() => table.grant(grant({ port, reusePort: true, address: "0.0.0.0" }, 2)), refused("EADDRINUSE"));
  assert.throws(() => table.grant(grant({ port })), refused("EADDRINUSE"));
  assert.equal(table.byId.size, 2);
});

test("a grant that fails changes nothing", () => {
  const port = free_port();
  assert.throws(() => table.grant(grant({ port, check_quota: quota_reached })), refused("EDQUOT"));
  assert.throws(() => table.grant(grant({ port, address: "192.0.2.1" })), refused("EADDRNOTAVAIL"));
  assert.deepEqual([table.byId.size, account_of().sockets], [0, 0]);
});

test("revoke takes the socket itself back", () => {
  const port = free_port();
  const { lease } = table.grant(grant({ port, hold: 50 }));
  table.revoke(lease, "revoked by uid 0");
  assert.deepEqual([table.byId.size, ended], [0, ["revoked by uid 0"]]);
  table.grant(grant({ port }));
});

test("no lease is named so that a command would take its name for an option", () => {
  for (let i = 0; i < 300; i++) {
    const { lease, undo } = table.grant(grant({ port: free_port() }));
    assert.match(lease.id, /^[0-9a-f]{16}$/);
    undo();
  }
});
