/**
 * Promise: under systemd a restart, an upgrade or the death of the helper is nothing to an app: not one connection is refused, its
 * leases come back as they were, they can still be revoked, and who asks meanwhile waits and is served.
 */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import type { LeaseEntry } from "../../client/index.js";
import { until } from "./helper-process.js";
import { boot, CHECKOUT, NODE, need_inits } from "./real-init.js";
import {
  another_helper,
  get,
  helper_pid,
  install,
  is_there,
  Load,
  leases,
  lowport,
  Program,
  start_app,
  status,
  verify_audit,
} from "./service.js";

await need_inits(import.meta.url, "systemd");

const box = await boot({ after }, { init: "systemd" });
// The tests ask for more than an app should.
const limits = { socketsPerUid: 2000, requestsPerSecond: 100_000, requestBurst: 100_000 };
const rules = [
  { name: "root", users: ["root"], ports: [81] },
  { name: "many", users: ["www-data"], protocols: ["udp"], ports: ["2000-2999"], maxSockets: 1000 },
];
await box.do(["mkdir", "/etc/lowport"]);
await box.do(["tee", "/etc/lowport/lowport.json"], { input: JSON.stringify({ limits, rules }) });
await install(box);
await box.do(["usermod", "-aG", "lowport", "alice"]);

/** An app that takes sockets of many kinds, and says what its client is told. */
const KEEPER = `import { Client } from "${CHECKOUT}/dist/client/index.js";
const say = (what) => console.log(JSON.stringify(what));
const client = new Client();
for (const event of ["disconnect", "reconnect"]) client.on(event, () => say({ [event]: true }));
client.on("lost", (lease, error) => say({ lost: lease, why: error.message }));
await client.bind({ protocol: "tcp", port: 80, label: "plain" });
await client.bind({ protocol: "tcp", port: 443, address: "127.0.0.1", hold: 30, label: "held" });
await client.bind({ protocol: "tcp", port: 443, address: "::1", label: "v6" });
await client.bind({ protocol: "udp", port: 2000, address: "::", ipv6Only: true, label: "udp" });
say({ bound: true });
process.stdin.resume().on("end", () => process.exit());`;

const restart = ["systemctl", "restart", "lowport"];
const known = (list: readonly LeaseEntry[]) =>
  list.map((lease) => ({ ...lease, state: undefined })).toSorted((a, b) => a.label.localeCompare(b.label) || a.port - b.port);
const all_active = () =>
  until("all leases are active", async () => {
    const list = await leases(box);
    return list.length > 0 && list.every(({ state }) => state === "active") && list;
  });
/** Those of apps that were ended, which may be held. */
async function no_leases(): Promise<void> {
  for (const { lease, state } of await leases(box)) if (state === "held") await lowport(box, "revoke", lease);
  await until("no lease is left", async () => (await leases(box)).length === 0);
}
/** Writes a drop-in for the unit, until the test ends. */
async function drop_in(t: { after(work: () => Promise<unknown>): void }, text: string): Promise<void> {
  const file = "/etc/systemd/system/lowport.service.d/test.conf";
  await box.do(["sh", "-c", 'mkdir -p "$(dirname "$0")" && cat >"$0" && systemctl daemon-reload', file], { input: text });
  t.after(() => box.do(["sh", "-c", 'rm "$0" && systemctl daemon-reload && systemctl restart lowport', file]));
}

/** How many have connected to the control socket and are not accepted (state 02), for nobody is there. */
const clients_waiting = async () =>
  (await box.do(["cat", "/proc/net/unix"])).match(/ 02 +\d+ \/run\/lowport\/lowport\.sock$/gm)?.length ?? 0;
/** Waits until systemd has tried that often to start the helper. */
const tried = (times: number) =>
  until("it was tried", async () => {
    const { stdout } = await box.run(["systemctl", "show", "--property", "NRestarts", "--value", "lowport.service"]);
    return Number(stdout) >= times;
  });
/** Proves that a start which cannot be, and is tried again, loses neither a lease nor who waits; `mend` makes it possible. */
async function nothing_is_lost(spoil: () => Promise<unknown>, mend: () => Promise<unknown>): Promise<void> {
  const before = known(await all_active());
  await spoil();
  await tried(1);
  const asked = box.run(["/usr/local/bin/lowport", "check", "tcp", "80"], { user: "www-data" });
  await until("a client waits", async () => (await clients_waiting()) > 0);
  await tried(3);
  assert.equal((await box.do(["systemctl", "is-active", "lowport.socket"])).trim(), "active");
  await mend();
  const { code, stderr } = await asked;
  assert.equal(code, 0, stderr);
  assert.deepEqual(known(await all_active()), before);
}

test("three restarts and a kill -9 under load: not one connection is refused, and the lease is the same", async (t) => {
  await start_app(t, box);
  const before = await leases(box);
  const load = await Load.start(box, 80, 20);
  const ways = [restart, restart, ["kill", "-KILL"], restart];
  for (const way of ways) {
    const pid = helper_pid(box);
    await load.goes_on();
    await box.do(way === restart ? way : [...way, String(pid)]);
    await another_helper(box, pid);
    assert.deepEqual(known(await all_active()), known(before));
    await load.goes_on();
  }
  assert.deepEqual(Object.keys(await load.stop()), ["hello from uid 33"]);
  await verify_audit(box);
});

test("leases come back with owner, hold, label and time, however the helper went; its app is told once each time", async (t) => {
  await no_leases();
  const keeper = Program.start(box, "www-data", KEEPER);
  t.after(() => keeper.stop());
  await keeper.said("bound");
  const before = await all_active();
  assert.deepEqual(
    before.map(({ uid, port, address, hold, label }) => [uid, port, address, hold, label]),
    [
      [33, 80, "::", 0, "plain"],
      [33, 443, "127.0.0.1", 30, "held"],
      [33, 443, "::1", 0, "v6"],
      [33, 2000, "::", 0, "udp"],
    ],
  );
  let round = 0;
  for (const signal of ["TERM", "KILL", "ABRT", "SEGV"]) {
    const pid = helper_pid(box);
    await box.do(["kill", `-${signal}`, String(pid)]);
    await another_helper(box, pid);
    await keeper.said("reconnect", ++round);
    assert.deepEqual(known(await all_active()), known(before), signal);
  }
  assert.ok(!keeper.lines.some((line) => "lost" in line), JSON.stringify(keeper.lines));
  assert.equal(keeper.lines.filter((line) => "disconnect" in line).length, round);
});

test("an app that dies while the helper is down has its lease held, and the next one has the same socket", async (t) => {
  await no_leases();
  const app = await start_app(t, box);
  const before = await all_active();
  const inode = async () => (await box.do(["ss", "--no-header", "-tlne", "sport = 80"])).match(/ino:(\d+)/)?.[1];
  const socket = await inode();
  const pid = String((await app.said("serving"))["pid"]);
  await box.do(["kill", "-STOP", pid]); // so that it does not connect again
  await drop_in(t, "[Service]\nExecStartPre=/bin/sh -c 'until [ -e /run/go ]; do sleep 0.01; done'\n");
  await box.do([...restart, "--no-block"]);
  await until("the helper is down", async () => (await box.run(["systemctl", "is-active", "lowport"])).stdout === "activating\n");
  await box.do(["kill", "-KILL", pid]);
  await until("it is gone", () => !is_there(box, `/proc/${pid}`));
  assert.notEqual(await inode(), undefined, "systemd has it");
  await box.do(["touch", "/run/go"]);
  await until("it serves", async () => (await leases(box))[0]?.state === "held");
  assert.deepEqual(known(await leases(box)), known(before));
  const other = await box.run([NODE, `${CHECKOUT}/dist/client/cli.js`, "check", "tcp", "80"], { user: "alice" });
  assert.equal(other.code, 1);
  await start_app(t, box);
  assert.deepEqual(known(await all_active()), known(before));
  assert.equal(await inode(), socket);
  assert.equal(await get(box), "hello from uid 33");
});

test("who connects to the control socket during a restart waits, and is served", async (t) => {
  await drop_in(t, "[Service]\nExecStartPre=/bin/sh -c 'until [ -e /run/go ]; do sleep 0.01; done'\n");
  await box.do(["rm", "-f", "/run/go"]);
  await box.do([...restart, "--no-block"]);
  await until("the helper is down", async () => (await box.run(["systemctl", "is-active", "lowport"])).stdout === "activating\n");
  let answered = 0;
  const before = await clients_waiting();
  const asked = Promise.all(
    Array.from({ length: 5 }, async () => {
      const outcome = await box.run(["/usr/local/bin/lowport", "check", "tcp", "80"], { user: "www-data" });
      answered++;
      return outcome;
    }),
  );
  await until("all wait", async () => (await clients_waiting()) >= before + 5);
  assert.equal(answered, 0);
  await box.do(["touch", "/run/go"]);
  for (const { code, stderr } of await asked) assert.equal(code, 0, stderr);
});

test("a helper that was stopped by a client's need only is started by it", async () => {
  await box.do(["systemctl", "stop", "lowport.service"]);
  assert.ok(!is_there(box, "/run/lowport/lowport.pid"));
  assert.equal((await lowport(box, "list")).code, 0);
  await until("it has started", async () => (await box.run(["systemctl", "is-active", "lowport.service"])).code === 0);
});

const BINDER = `import net from "node:net";
import { closeSync } from "node:fs";
import { Client } from "${CHECKOUT}/dist/client/index.js";
const [port, what, times] = process.argv.slice(1);
for (let i = 0; i < Number(times); i++) {
  const client = new Client();
  const lease = await client.bind({ protocol: "tcp", port: Number(port) });
  closeSync(lease.fd);
  if (what === "release") {
    await client.call("release", { lease: lease.lease });
    await new Promise((resolve) => net.createServer().listen(Number(port), function () { this.close(resolve); }));
  }
  client.close();
}
console.log(JSON.stringify({ done: true }));`;

test("a port is free as soon as its lease was released: systemd has no copy of it, 200 times", async (t) => {
  await no_leases();
  const binder = new Program(box.spawn([NODE, "--input-type=module", "-e", BINDER, "--", "81", "release", "200"]));
  t.after(() => binder.stop());
  await binder.said("done");
});

test("a successor has the port at once after the app before has gone, 50 times", async (t) => {
  await no_leases();
  const binder = Program.start(box, "www-data", BINDER, "80", "close", "50");
  t.after(() => binder.stop());
  await binder.said("done");
});

test("a thousand leases come back over one restart", async (t) => {
  await no_leases();
  const many = `import { Client } from "${CHECKOUT}/dist/client/index.js";
    const client = new Client();
    client.on("reconnect", () => console.log(JSON.stringify({ reconnect: true })));
    client.on("lost", (lease) => console.log(JSON.stringify({ lost: lease })));
    for (let port = 2000; port < 3000; port++) await client.bind({ protocol: "udp", port, address: "127.0.0.1" });
    console.log(JSON.stringify({ bound: true }));
    process.stdin.resume().on("end", () => process.exit());`;
  const app = Program.start(box, "www-data", many);
  t.after(async () => {
    await app.stop();
    await no_leases();
  });
  await app.said("bound");
  const before = known(await all_active());
  assert.equal(before.length, 1000);
  for (const signal of ["TERM", "KILL"]) {
    const pid = helper_pid(box);
    await box.do(["kill", `-${signal}`, String(pid)]);
    await another_helper(box, pid);
    assert.deepEqual(known(await all_active()), before);
  }
  assert.ok(!app.lines.some((line) => "lost" in line));
});

test("a lease that came back can be revoked, and one that was released does not come back", async (t) => {
  await no_leases();
  await start_app(t, box, { label: "revoked" });
  const pid = helper_pid(box);
  await box.do(restart);
  await another_helper(box, pid);
  const [lease] = await all_active();
  await box.do(["/usr/local/bin/lowport", "revoke", lease?.lease ?? ""]);
  assert.deepEqual(await leases(box), []);
  const reach = `require("net").connect(80, "127.0.0.1").setTimeout(300)
    .on("connect", () => process.exit(0)).on("timeout", () => process.exit(1)).on("error", () => process.exit(1))`;
  assert.equal((await box.run([NODE, "-e", reach])).code, 1);
  await box.do(restart);
  assert.deepEqual(await leases(box), []);
  assert.equal((await status(box)).pid, helper_pid(box));
});

test("a stop is the end of all leases, for it is the admin's word", async (t) => {
  await no_leases();
  const keeper = Program.start(box, "www-data", KEEPER);
  t.after(() => keeper.stop());
  await keeper.said("bound");
  await box.do(["systemctl", "stop", "lowport.service", "lowport.socket"]);
  await box.do(["systemctl", "start", "lowport.socket", "lowport.service"]);
  assert.match(await box.do(["tail", "-n", "40", "/var/log/lowport/audit.log"]), /leases of the helper before: 0/);
});

test("a helper that hangs is restarted by the watchdog, and its leases come back", async (t) => {
  await drop_in(t, "[Service]\nWatchdogSec=1s\n");
  await box.do(restart);
  await no_leases();
  await start_app(t, box);
  const before = await all_active();
  const load = await Load.start(box);
  const pid = helper_pid(box);
  await box.do(["kill", "-STOP", String(pid)]);
  await another_helper(box, pid);
  assert.deepEqual(known(await all_active()), known(before));
  await load.goes_on();
  assert.deepEqual(Object.keys(await load.stop()), ["hello from uid 33"]);
  assert.match(await box.do(["journalctl", "-u", "lowport"]), /Watchdog timeout/);
  await verify_audit(box);
});

test("a restart with a configuration that is wrong loses nothing: all goes on when it is mended", async (t) => {
  await no_leases();
  await start_app(t, box);
  const file = "/etc/lowport/lowport.json";
  const text = await box.do(["cat", file]);
  const mend = () => box.do(["tee", file], { input: text });
  t.after(mend);
  await nothing_is_lost(async () => {
    await box.do(["tee", file], { input: "{" });
    assert.notEqual((await box.run(restart)).code, 0);
  }, mend);
  assert.equal(await get(box), "hello from uid 33");
});

test("a helper that dies while the disk of the audit log is full loses nothing: all goes on when there is room", async (t) => {
  const log = "/var/log/lowport";
  await box.do([
    "sh",
    "-ec",
    `systemctl stop lowport; mount -t tmpfs -o size=256k small ${log}; chown lowport:adm ${log}; chmod 2750 ${log}`,
  ]);
  t.after(() => box.do(["sh", "-ec", `systemctl stop lowport; umount ${log}; systemctl start lowport`]));
  await box.do(["systemctl", "start", "lowport"]);
  await start_app(t, box);
  const pid = helper_pid(box);
  const before = known(await all_active());
  await box.run(["dd", "if=/dev/zero", `of=${log}/filler`, "bs=64"]);
  await box.do(["kill", "-KILL", String(pid)]);
  await until(
    "systemd has seen it",
    async () => (await box.run(["systemctl", "show", "-p", "MainPID", "--value", "lowport"])).stdout.trim() !== String(pid),
  );
  assert.equal(await get(box), "hello from uid 33");
  await box.do(["rm", `${log}/filler`]);
  await another_helper(box, pid);
  assert.deepEqual(known(await all_active()), before);
  await verify_audit(box);
});
