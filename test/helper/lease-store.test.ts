/** Leases over the death of the helper: what is written down, what is taken back, and what is not. */
import assert from "node:assert/strict";
import { mkdirSync, openSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { afterEach, test } from "node:test";
import { pino } from "pino";
import { Accounts } from "../../helper/account.js";
import type { Lease } from "../../helper/lease.js";
import { type Kept, LeaseStore } from "../../helper/lease-store.js";
import { LeaseTable } from "../../helper/leases.js";
import type { Systemd } from "../../helper/systemd.js";
import { native } from "../../shared/native.js";
import { LIMITS } from "../../shared/protocol.js";
import { count_descriptors, free_port, peer, temp_folder } from "../fixtures.js";

const said: string[] = [];
const lost: string[] = [];
const on_lost = (id: string, reason: string) => void lost.push(`${id} ${reason}`);
const logged: string[] = [];
/** Writes down what systemd would hear; the real one is in the end-to-end tests. */
const systemd = { present: true, notify: (text: string) => void said.push(text.replaceAll("\n", " ")) } as unknown as Systemd;
const log = pino({ base: null }, { write: (line: string) => void logged.push(line) });
const accounts = new Accounts();

afterEach(() => {
  said.length = 0;
  lost.length = 0;
  logged.length = 0;
});

const grant = (port: number, more: Partial<Lease> = {}) => ({
  ...{ protocol: "tcp" as const, address: "127.0.0.1", port, ipv6Only: false, backlog: 16, reusePort: false },
  ...{ holder: {}, peer: peer(7), account: accounts.of(7, LIMITS), rule: "web", share: false, hold: 5, label: "a" },
  ...{ check_quota: () => undefined, ...more },
});
/** A lease of the helper before, as the next one finds it: its socket and its file. */
function granted(folder: string, port = free_port()) {
  const table = new LeaseTable(() => undefined, new LeaseStore(systemd, log, folder));
  return table.grant(grant(port)).lease;
}
const restored = ({ pid, uid, gid, since, ...terms }: Kept): Lease => ({
  ...terms,
  ...{ peer: { pid, uid, gid, groups: [] }, account: accounts.of(uid, LIMITS), since: new Date(since) },
  ...{ references: new Map(), timer: undefined },
});

test("a lease is kept when it is granted and forgotten when it ends", () => {
  const folder = temp_folder();
  const table = new LeaseTable(() => undefined, new LeaseStore(systemd, log, folder));
  const { lease } = table.grant(grant(free_port()));
  assert.deepEqual(readdirSync(folder), [lease.id]);
  assert.deepEqual(said, [`FDSTORE=1 FDNAME=${lease.id} FDPOLL=0`]);
  table.end(lease, "over");
  assert.deepEqual(readdirSync(folder), []);
  assert.equal(said[1], `FDSTOREREMOVE=1 FDNAME=${lease.id}`);
});

test("a grant that is taken back is forgotten", () => {
  const folder = temp_folder();
  const table = new LeaseTable(() => undefined, new LeaseStore(systemd, log, folder));
  table.grant(grant(free_port())).undo();
  assert.deepEqual([readdirSync(folder), said.length], [[], 2]);
});

test("it comes back with owner, hold and label, is held a minute at least, and is resumed by its owner alone", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const folder = temp_folder();
  const before = granted(folder);
  const kept = new LeaseStore(systemd, log, folder).take_back(
    new Map([
      ["control", 99],
      [before.id, before.fd],
    ]),
    on_lost,
  );
  assert.deepEqual(
    kept.map(({ id, fd, uid, gid, hold, label, rule }) => [id, fd, uid, gid, hold, label, rule]),
    [[before.id, before.fd, 7, 7, 5, "a", "web"]],
  );
  const ended: string[] = [];
  const table = new LeaseTable((_, reason) => ended.push(reason), new LeaseStore(systemd, log, folder));
  table.restore(restored(kept[0] as Kept));
  assert.equal(accounts.of(7, LIMITS).sockets, 2, "it counts (and so does the one that it was)");
  t.mock.timers.tick(59_000);
  assert.throws(() => table.grant(grant(before.port, { account: accounts.of(8, LIMITS), peer: peer(8) })), /taken by another/);
  const { lease, resumed } = table.grant(grant(before.port, { hold: 9, label: "b" }));
  assert.deepEqual([resumed, lease.id, lease.since.getTime()], [true, before.id, before.since.getTime()]);
  const { hold, label } = JSON.parse(readFileSync(`${folder}/${before.id}`, "utf8")) as Kept;
  assert.deepEqual([hold, label], [9, "b"], "what has changed is written down");
  t.mock.timers.tick(120_000);
  assert.deepEqual(ended, []);
  table.end(lease, "over");
  assert.deepEqual(readdirSync(folder), []);
});

test("its owner comes, and that cannot be recorded: it is held again for as long", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const folder = temp_folder();
  const before = granted(folder);
  const [kept] = new LeaseStore(systemd, log, folder).take_back(new Map([[before.id, before.fd]]), on_lost);
  const ended: string[] = [];
  const table = new LeaseTable((_, reason) => ended.push(reason));
  table.restore({ ...restored(kept as Kept), hold: 0 });
  table.grant(grant(before.port, { hold: 0 })).undo();
  t.mock.timers.tick(59_000);
  assert.deepEqual(ended, []);
  assert.equal(table.grant(grant(before.port, { hold: 0 })).resumed, true);
  table.end(table.byId.get(before.id) as Lease, "over");
});

test("of several on one port each process gets its own again", () => {
  const folder = temp_folder();
  const port = free_port();
  const before = new LeaseTable(() => undefined, new LeaseStore(systemd, log, folder));
  const of_process = (pid: number) => grant(port, { reusePort: true, peer: { ...peer(7), pid } });
  const had = [101, 102, 103].map((pid) => before.grant(of_process(pid)).lease);
  const passed = new Map(had.map(({ id, fd }) => [id, fd]));
  const after = new LeaseTable(() => undefined, new LeaseStore(systemd, log, folder));
  for (const kept of new LeaseStore(systemd, log, folder).take_back(passed, on_lost)) after.restore(restored(kept));
  const ids = (pids: number[]) => pids.map((pid) => after.grant(of_process(pid)).lease.id);
  assert.deepEqual(ids([103, 101]), [had[2]?.id, had[0]?.id]);
  assert.deepEqual(ids([104]), [had[1]?.id], "what is left is for whoever comes");
  for (const lease of [...after.byId.values()]) after.end(lease, "over");
});

test("nobody comes for it: it ends after a minute, or after its own longer hold", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  for (const [hold, seconds] of [
    [5, 60],
    [300, 300],
  ] as const) {
    const folder = temp_folder();
    const before = granted(folder);
    const [kept] = new LeaseStore(systemd, log, folder).take_back(new Map([[before.id, before.fd]]), on_lost);
    const ended: string[] = [];
    new LeaseTable((_, reason) => ended.push(reason)).restore({ ...restored(kept as Kept), hold });
    t.mock.timers.tick(seconds * 1000 - 1);
    assert.deepEqual(ended, []);
    t.mock.timers.tick(1);
    assert.deepEqual(ended, [`its owner did not come back within ${seconds} s`]);
  }
});

test("a socket whose listener was shut down is not held", () => {
  const folder = temp_folder();
  const before = granted(folder);
  native().revokeSocket(before.fd);
  const [kept] = new LeaseStore(systemd, log, folder).take_back(new Map([[before.id, before.fd]]), on_lost);
  const ended: string[] = [];
  new LeaseTable((_, reason) => ended.push(reason)).restore(restored(kept as Kept));
  assert.match(ended[0] ?? "", /shut down/);
});

for (const [protocol, address, ipv6Only] of [
  ["tcp", "::", false],
  ["tcp", "::", true],
  ["tcp", "::1", false],
  ["tcp", "::1", true],
  ["udp", "::", false],
  ["udp", "::1", false],
  ["udp", "127.0.0.1", false],
  ["tcp", "0.0.0.0", false],
] as const)
  test(`${protocol} ${address}${ipv6Only ? ", IPv6 only," : ""} comes back as what it was`, () => {
    const folder = temp_folder();
    const table = new LeaseTable(() => undefined, new LeaseStore(systemd, log, folder));
    const { lease } = table.grant(grant(free_port(protocol === "tcp"), { protocol, address, ipv6Only }));
    const [kept] = new LeaseStore(systemd, log, folder).take_back(new Map([[lease.id, lease.fd]]), on_lost);
    assert.deepEqual([lost, kept?.address, kept?.ipv6Only], [[], address, ipv6Only]);
    table.end(lease, "over");
  });

test("a socket by a name that is no lease's is closed", () => {
  const folder = temp_folder();
  mkdirSync(`${folder}/x`);
  const fd = openSync("/dev/null", "r");
  const descriptors = count_descriptors();
  assert.deepEqual(new LeaseStore(systemd, log, folder).take_back(new Map([["../x", fd]]), on_lost), []);
  assert.deepEqual([lost.length, count_descriptors()], [1, descriptors - 1]);
});

for (const [what, spoil] of [
  ["no file", () => ""],
  ["no JSON", () => "{"],
  ["another port", (text: string) => text.replace(/"port":\d+/, '"port":1')],
  ["another protocol", (text: string) => text.replace('"tcp"', '"udp"')],
  ["another address", (text: string) => text.replace("127.0.0.1", "127.0.0.2")],
] as const)
  test(`a socket with ${what} is closed, given up and told of`, () => {
    const folder = temp_folder();
    const before = granted(folder);
    const descriptors = count_descriptors();
    const file = `${folder}/${before.id}`;
    writeFileSync(file, spoil(readFileSync(file, "utf8")));
    assert.deepEqual(new LeaseStore(systemd, log, folder).take_back(new Map([[before.id, before.fd]]), on_lost), []);
    assert.equal(count_descriptors(), descriptors - 1);
    assert.equal(said.at(-1), `FDSTOREREMOVE=1 FDNAME=${before.id}`);
    assert.match(lost.join("\n"), new RegExp(`^${before.id} closed, for its lease is not known: .+$`));
    assert.deepEqual(readdirSync(folder), []);
  });

test("a file whose socket did not come is removed and told of; what is no lease's stays", () => {
  const folder = temp_folder();
  writeFileSync(`${folder}/0123456789abcdef`, "{}");
  mkdirSync(`${folder}/folder/in/it`, { recursive: true });
  writeFileSync(`${folder}/0123456789abcdef.new`, "{}");
  mkdirSync(`${folder}/fedcba9876543210/in`, { recursive: true });
  assert.deepEqual(new LeaseStore(systemd, log, folder).take_back(new Map(), on_lost), []);
  assert.deepEqual(readdirSync(folder), ["folder"], "what is no lease's is left alone");
  assert.deepEqual(lost.toSorted(), [
    "0123456789abcdef systemd has no socket of it",
    "fedcba9876543210 systemd has no socket of it",
  ]);
});

test("what cannot be written down is not kept, and told; the grant stands", () => {
  const folder = temp_folder();
  const table = new LeaseTable(() => undefined, new LeaseStore(systemd, log, `${folder}/nowhere`));
  const { lease } = table.grant(grant(free_port()));
  assert.deepEqual([said, table.byId.size], [[], 1]);
  assert.match(logged[0] ?? "", /will not outlive the helper/);
  mkdirSync(`${folder}/nowhere`);
  table.end(lease, "over");
});

test("without systemd nothing is kept", () => {
  const folder = temp_folder();
  const store = new LeaseStore({ present: false } as Systemd, log, folder);
  assert.deepEqual([store.keeps, store.settled(), store.take_back(new Map([["x", 99]]), on_lost)], [false, undefined, []]);
  const table = new LeaseTable(() => undefined, store);
  table.end(table.grant(grant(free_port())).lease, "over");
  assert.deepEqual(readdirSync(folder), []);
});

test("what was given up is settled by one barrier for all", async () => {
  let barriers = 0;
  let fall: () => void = () => undefined;
  const with_barrier = {
    present: true,
    notify: () => undefined,
    barrier: () => (barriers++, new Promise<void>((resolve) => (fall = resolve))),
  };
  const store = new LeaseStore(with_barrier as unknown as Systemd, log, temp_folder());
  assert.equal(store.settled(), undefined);
  store.forget({ id: "a" } as Lease);
  store.forget({ id: "b" } as Lease);
  const settled = store.settled();
  assert.deepEqual([store.settled() === settled, barriers], [true, 1]);
  fall();
  await settled;
  assert.equal(store.settled(), undefined);
});

test("a barrier that cannot be made is told, and nobody waits for it", async () => {
  const broken = { present: true, notify: () => undefined, barrier: () => Promise.reject(new Error("no epoll")) };
  const store = new LeaseStore(broken as unknown as Systemd, log, temp_folder());
  store.forget({ id: "a" } as Lease);
  await store.settled();
  assert.match(logged.join(""), /no epoll/);
  assert.equal(store.settled(), undefined);
});
