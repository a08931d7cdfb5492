/**
 * Promise: the audit log is one chain over restarts, crashes and rotation, written by one helper, and a helper does not go
 * on from a log that was edited.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { AUDIT, AUDIT_FOLDER, CONFIG, read_audit, run_helper, start_helper, verify_chain } from "./helper-process.js";
import { Peer } from "./peer.js";

await enter_box(import.meta.url);

for (const durability of ["write", "fsync"])
  test(`a life is on record from start to stop, and the chain goes on over a restart (${durability})`, async (t) => {
    const config = { audit: { durability, syslog: false } };
    const first = await start_helper(t, { config });
    const alice = await Peer.start(t, USERS.alice);
    const wire = await alice.connect();
    const { lease, fd } = await wire.bind({ port: 80, label: "shop" });
    await wire.refused("bind", { protocol: "tcp", port: 22 }, 1, "EACCES");
    await wire.refused("bind", { protocol: "tcp", port: 80, x: 1 }, -32602);
    await wire.close();
    await alice.close(fd);
    await first.recorded("the end", (line) => line.event === "lease-end");
    assert.equal(await first.stop(), 0);
    const lines = read_audit();
    assert.deepEqual(
      lines.map((line) => [line.event, line.decision, line.code]),
      [
        ["start", undefined, undefined],
        ["connect", "allow", undefined],
        ["call", "allow", undefined],
        ["call", "deny", "EACCES"],
        ["call", "invalid", -32602],
        ["disconnect", undefined, undefined],
        ["lease-end", undefined, undefined],
        ["stop", undefined, undefined],
      ],
    );
    assert.deepEqual(lines[2]?.params, { protocol: "tcp", port: 80, label: "shop" });
    assert.equal(lines[2]?.lease, lease);
    assert.equal(lines[4]?.params, undefined, "params that did not pass the schema are not kept");
    assert.ok(lines.slice(2, 5).every((line) => Number.isInteger(line.durationUs)));
    assert.ok(lines.slice(1, 7).every((line) => line.peer?.uid === 2001));

    const second = await start_helper(t, { keep: true });
    await (await alice.connect()).bind({ port: 80 });
    assert.equal(await second.stop("SIGINT"), 0);
    assert.equal(verify_chain(), read_audit().length);
    assert.equal(read_audit()[8]?.event, "start");
    const { uid, gid, mode } = statSync(AUDIT);
    assert.deepEqual([uid, gid, mode & 0o137], [USERS.lowport.uid, USERS.lowport.gid, 0], "nothing of it is for others");
  });

test("a helper that has just become ready has recorded its start and nothing else, and has the control socket and no other", async (t) => {
  const helper = await start_helper(t);
  assert.deepEqual(
    helper.audit().map(({ seq, event }) => [seq, event]),
    [[1, "start"]],
  );
  const more = readdirSync(`/proc/${helper.pid}/fd`).filter((fd) => Number(fd) > 2); // these three are the test's
  const links = more.map((fd) => readlinkSync(`/proc/${helper.pid}/fd/${fd}`));
  assert.equal(links.filter((link) => link.startsWith("socket:")).length, 1, links.join(" "));
});

test("a torn last line is taken out, kept in the start record, and the chain verifies", async (t) => {
  await (await start_helper(t)).stop("SIGKILL");
  appendFileSync(AUDIT, '{"seq":2,"time":"2026-01-01T00:00:00.000Z","event":"ca');
  const helper = await start_helper(t, { keep: true });
  const start = await helper.recorded("the second start", (line) => line.event === "start" && line.seq === 2);
  assert.ok(start.reason?.includes('{"seq":2,"time":"2026-01-01T00:00:00.000Z","event":"ca'), start.reason);
  verify_chain();
});

test("a log that is nothing but a torn line begins the chain", async (t) => {
  await (await start_helper(t)).stop("SIGKILL");
  writeFileSync(AUDIT, "\0\0\0\x80torn");
  await start_helper(t, { keep: true });
  assert.equal(verify_chain(), 1);
});

test("an edited last line refuses the start, and nothing is written", async (t) => {
  await (await start_helper(t)).stop();
  const text = readFileSync(AUDIT, "utf8");
  for (const edited of [
    text.replace(/"reason":"SIGTERM;/, '"reason":"SIGINT;'),
    `${text}{"seq":3}\n`,
    `${text}\n`,
    text.replace(/"hash":"..([0-9a-f]+)"\}\n$/, '"hash":"00$1"}\n'),
  ]) {
    assert.notEqual(edited, text);
    writeFileSync(AUDIT, edited);
    const { code, stderr } = await run_helper(t);
    assert.equal(code, 78, stderr);
    assert.ok(stderr.includes(`${AUDIT}: its last line is no audit record`), stderr);
    assert.equal(readFileSync(AUDIT, "utf8"), edited);
  }
});

test("two helpers never write one log", async (t) => {
  const helper = await start_helper(t);
  rmSync("/etc/second", { recursive: true, force: true });
  mkdirSync("/etc/second");
  const config = { ...JSON.parse(readFileSync(CONFIG, "utf8")), socket: { path: "/run/second/lowport.sock" } };
  writeFileSync("/etc/second/lowport.json", JSON.stringify(config));
  const { code, stderr } = await run_helper(t, { args: ["run", "--config", "/etc/second/lowport.json"] });
  assert.equal(code, 78, stderr);
  assert.match(stderr, /another helper is writing it/);
  assert.ok(helper.alive);
  assert.equal(verify_chain(), 1);
});

test("a log that is a link, a fifo, a folder or another user's is refused", async (t) => {
  await (await start_helper(t)).stop();
  const things: [string, () => void][] = [
    ["link", () => symlinkSync(`${AUDIT_FOLDER}/elsewhere`, AUDIT)],
    ["fifo", () => assert.equal(spawnSync("mkfifo", ["-m", "666", AUDIT]).status, 0)],
    ["folder", () => mkdirSync(AUDIT)],
    ["root's", () => (writeFileSync(AUDIT, ""), chmodSync(AUDIT, 0o666))],
  ];
  for (const [name, make] of things) {
    rmSync(AUDIT, { recursive: true, force: true });
    make();
    const { code, stderr } = await run_helper(t);
    assert.equal(code, 78, `${name}: ${stderr}`);
    assert.ok(stderr.includes("/audit/path"), `${name}: ${stderr}`);
  }
});

for (const signal of ["SIGHUP", "SIGUSR1"] as const)
  test(`rotation: ${signal} goes on in a new file, and the chain with it`, async (t) => {
    const helper = await start_helper(t);
    const wire = await (await Peer.start(t, USERS.alice)).connect();
    await wire.ask("status");
    renameSync(AUDIT, `${AUDIT}.1`);
    await wire.ask("status"); // still to the old file
    helper.process.kill(signal);
    await helper.said("rotate");
    await wire.ask("status");
    const count = verify_chain(`${AUDIT}.1`);
    assert.equal(count, 4);
    const last = read_audit(`${AUDIT}.1`).at(-1);
    assert.ok(last);
    verify_chain(AUDIT, last);
    assert.equal(read_audit()[0]?.event, "rotate");
    // And over a restart right after a rotation, when there is no new file yet.
    await helper.stop();
    renameSync(AUDIT, `${AUDIT}.2`);
    const newest = read_audit(`${AUDIT}.2`).at(-1);
    assert.ok(newest);
    await start_helper(t, { keep: true });
    verify_chain(AUDIT, newest);
  });

test("a log that was put back from a copy is still one chain", async (t) => {
  await (await start_helper(t)).stop();
  cpSync(AUDIT, "/run/copy");
  rmSync(AUDIT);
  cpSync("/run/copy", AUDIT);
  chownSync(AUDIT, USERS.lowport.uid, USERS.lowport.gid);
  await (await start_helper(t, { keep: true })).stop();
  assert.equal(verify_chain(), 4);
});
