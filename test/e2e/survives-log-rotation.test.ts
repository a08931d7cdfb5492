/**
 * Promise: logrotate, with the configuration that install writes, loses no record: the chain goes on over all files that it
 * leaves, compressed ones too, under load and while the helper is down; and it does nothing as root in the log's folder.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { enter_box, REPOSITORY, skip_file, USERS } from "./box.js";
import { lowport } from "./client-command.js";
import {
  AUDIT,
  AUDIT_FOLDER,
  type AuditLine,
  clear_audit_log,
  type Helper,
  start_helper,
  verify_chain,
  write_config,
} from "./helper-process.js";
import { Peer } from "./peer.js";

const PID_FILE = "/run/lowport/lowport.pid";
const CONFIGURATION = "/etc/logrotate.d/lowport";
const ADM = 4;

if (spawnSync("logrotate", ["--version"]).error !== undefined)
  await skip_file(import.meta.url, "needs logrotate: apt-get install logrotate");
await enter_box(import.meta.url);

/** What install makes of its template here, with lines of an admin in place of others. */
function configure(changes: readonly [string, string][] = []): void {
  const values: Record<string, string> = { AUDIT_LOG: AUDIT, USER: "lowport", ROTATE: `kill -s USR1 "$(cat ${PID_FILE})"` };
  let text = readFileSync(join(REPOSITORY, "helper/service/lowport.logrotate"), "utf8");
  text = text.replaceAll(/@([A-Z_]+)@/g, (_, name: string) => values[name] as string);
  for (const [line, others] of changes) {
    assert.ok(text.includes(`    ${line}\n`), text);
    text = text.replace(`    ${line}\n`, `    ${others.replaceAll("\n", "\n    ")}\n`);
  }
  writeFileSync(CONFIGURATION, text, { mode: 0o644 });
}

/** What a distribution has in logrotate.conf, in whose order the other files are read. */
const DEFAULTS = "weekly\nrotate 4\ncreate\n";

function logrotate(defaults = DEFAULTS, ...flags: string[]): { status: number | null; said: string } {
  writeFileSync("/etc/logrotate.conf", `${defaults}include /etc/logrotate.d/lowport\n`, { mode: 0o644 });
  const args = ["--state", "/run/logrotate.state", "--verbose", ...flags, "/etc/logrotate.conf"];
  const { status, stdout, stderr } = spawnSync("logrotate", args, { encoding: "utf8" });
  return { status, said: stdout + stderr };
}

function rotate(defaults = DEFAULTS): string {
  const { status, said } = logrotate(defaults, "--force");
  assert.equal(status, 0, said);
  assert.doesNotMatch(said, /^error/m);
  return said;
}

/** Starts the helper as a service is: with a pid file, and a folder that lets a group read the log. */
async function start(t: TestContext, keep = false): Promise<Helper> {
  if (!keep) {
    write_config();
    clear_audit_log();
    chownSync(AUDIT_FOLDER, USERS.lowport.uid, ADM);
    chmodSync(AUDIT_FOLDER, 0o2750);
  }
  return start_helper(t, { keep: true, args: ["run", "--pid-file", PID_FILE] });
}

const plain = (path: string) => (path.endsWith(".gz") ? gunzipSync(readFileSync(path)) : readFileSync(path)).toString();
const records = (path: string) =>
  plain(path)
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line) as AuditLine);

/** The files of the log, oldest first: by the number of their first record, not by name. */
function files(): string[] {
  const paths = readdirSync(AUDIT_FOLDER).map((name) => join(AUDIT_FOLDER, name));
  const first = new Map(paths.map((path) => [path, records(path)[0]?.seq ?? Number.POSITIVE_INFINITY]));
  return paths.toSorted((a, b) => (first.get(a) as number) - (first.get(b) as number));
}

const names = () => files().map((path) => path.slice(AUDIT_FOLDER.length + 1));

/** Proves that the files are one chain from its beginning: by the test's own code, and by the command that an auditor has. */
async function all_is_one_chain(): Promise<AuditLine[]> {
  const paths = files();
  const whole = paths.map(plain).join("");
  writeFileSync("/run/whole.log", whole);
  const count = verify_chain("/run/whole.log");
  for (const user of [USERS.root, USERS.olaf]) {
    const { code, stdout, stderr } = await lowport(user, ["audit", "verify", ...paths, "--reach", String(count)]);
    assert.equal(code, 0, stdout + stderr);
    assert.match(stdout, new RegExp(`^ok: ${count} lines in \\d+ files?, records 1 to ${count}, `));
  }
  for (const path of paths) {
    const { uid, gid, mode } = statSync(path);
    assert.deepEqual([uid, gid, (mode & 0o7777).toString(8)], [USERS.lowport.uid, ADM, "640"], path);
  }
  return records("/run/whole.log");
}

/** Binds and releases over and over until told to stop. @returns what it was granted */
async function work(t: TestContext, user: "alice" | "carol", port: number, stopped: () => boolean): Promise<string[]> {
  const peer = await Peer.start(t, USERS[user]);
  const wire = await peer.connect();
  const leases: string[] = [];
  while (!stopped()) {
    const { lease, fd } = await wire.bind({ port });
    leases.push(lease);
    await peer.close(fd);
    assert.equal((await wire.ask("release", { lease })).error, undefined);
  }
  await wire.close();
  return leases;
}

test("six rotations under load: each grant and each release is on record once, in one chain", async (t) => {
  configure();
  const helper = await start(t);
  let stopped = false;
  t.after(() => (stopped = true));
  const ports = [
    [80, "alice"],
    [443, "alice"],
    [800, "carol"],
    [801, "carol"],
  ] as const;
  const load = Promise.all(ports.map(([port, user]) => work(t, user, port, () => stopped)));
  const grants = (path: string) =>
    records(path).filter(({ method, decision }) => method === "bind" && decision === "allow").length;
  for (let round = 1; round <= 6; round++) {
    await helper.recorded("work", ({ method, decision }) => method === "bind" && decision === "allow");
    assert.ok(
      rotate().includes(`switching euid from 0 to ${USERS.lowport.uid} and egid from 0 to ${ADM} `),
      "as the log's owner",
    );
    await helper.said("rotate", round);
    assert.ok(grants(`${AUDIT}.1`) > 0, "it was under load");
  }
  stopped = true;
  const leases = (await load).flat();
  assert.equal(await helper.stop(), 0);
  assert.deepEqual(names(), [...[6, 5, 4, 3, 2].map((n) => `audit.log.${n}.gz`), "audit.log.1", "audit.log"]);
  const all = await all_is_one_chain();
  const by = (method: string) => all.filter((line) => line.method === method && line.decision === "allow");
  assert.deepEqual(new Set(by("bind").map(({ lease }) => lease)), new Set(leases));
  assert.equal(by("bind").length, leases.length);
  assert.equal(by("release").length, leases.length);
  assert.equal(all.filter(({ event }) => event === "rotate").length, 6);
});

test("while the helper is down nothing is lost, however often logrotate comes, and the next start goes on", async (t) => {
  configure();
  await (await start(t)).stop();
  for (let round = 1; round <= 3; round++) {
    rotate();
    assert.deepEqual(names(), ["audit.log.1"], "only once, and not compressed");
  }
  const helper = await start(t, true);
  assert.deepEqual(names(), ["audit.log.1", "audit.log"]);
  rotate();
  await helper.said("rotate");
  await helper.stop();
  assert.deepEqual(names(), ["audit.log.2.gz", "audit.log.1", "audit.log"]);
  await all_is_one_chain();
});

test("a helper that is not told goes on in the file that was moved, and logrotate leaves that alone", async (t) => {
  configure();
  const helper = await start(t);
  const wire = await (await Peer.start(t, USERS.alice)).connect();
  renameSync(PID_FILE, "/run/elsewhere");
  rotate();
  await wire.ask("status");
  rotate();
  rotate();
  assert.deepEqual(names(), ["audit.log.1"]);
  await wire.ask("status");
  renameSync("/run/elsewhere", PID_FILE);
  await helper.stop();
  await start(t, true);
  await all_is_one_chain();
});

test("rotated by size and named by date, the newest file is found wherever its name puts it", async (t) => {
  configure([
    ["weekly", "size 1"],
    ["maxsize 64M", ""],
    ["nodateext", "dateext\ndateformat -%Y%m%d-%s"],
  ]);
  let count = 0;
  const rotate_again = () => {
    const { status, said } = logrotate();
    assert.equal(status, 0, said);
    const fresh = names().filter((name) => /^audit\.log-\d{8}-\d{10}$/.test(name) && !name.includes("-20260101-"));
    assert.equal(fresh.length, 1, names().join());
    // So that another one may have the same second.
    renameSync(join(AUDIT_FOLDER, fresh[0] as string), `${AUDIT}-20260101-${String(++count).padStart(10, "0")}`);
  };
  for (let round = 1; round <= 3; round++) {
    const helper = await start(t, round > 1);
    rotate_again();
    await helper.said("rotate");
    await helper.stop();
    rotate_again(); // and while it is down
  }
  await (await start(t, true)).stop();
  assert.deepEqual(
    names().map((name) => name.replace(/-20260101-0*/, "-")),
    ["audit.log-1.gz", "audit.log-2.gz", "audit.log-3.gz", "audit.log-4.gz", "audit.log-5.gz", "audit.log-6", "audit.log"],
  );
  await all_is_one_chain();
});

for (const defaults of [
  "copytruncate\n",
  "dateext\ndateformat .%d\n",
  "olddir /var/log\n",
  "create 0666 root root\n",
  "nodelaycompress\n",
  "compresscmd /usr/bin/xz\nuncompresscmd /usr/bin/unxz\ncompressext .xz\ncompressoptions -9\n",
])
  test(`the distribution's own defaults do no harm: ${defaults.trim().replaceAll("\n", ", ")}`, async (t) => {
    configure();
    const helper = await start(t);
    const wire = await (await Peer.start(t, USERS.alice)).connect();
    for (let round = 1; round <= 2; round++) {
      await wire.ask("status");
      const { ino } = statSync(AUDIT);
      rotate(`${DEFAULTS}${defaults}`);
      assert.equal(statSync(`${AUDIT}.1`).ino, ino, "moved, not copied");
      await helper.said("rotate", round);
    }
    await helper.stop();
    rotate(`${DEFAULTS}${defaults}`); // the next one has to find where to go on
    await (await start(t, true)).stop();
    await all_is_one_chain();
  });

test("what a helper that is taken over plants in its folder gives it nothing of root's", async (t) => {
  configure();
  await (await start(t)).stop();
  const victim = "/etc/only-roots";
  writeFileSync(victim, "secret\n".repeat(100), { mode: 0o600 });
  const before = statSync(victim);
  for (const name of ["audit.log", "audit.log.1", "audit.log.1.gz", "audit.log.2.gz"]) {
    for (const other of readdirSync(AUDIT_FOLDER)) rmSync(join(AUDIT_FOLDER, other));
    if (name !== "audit.log") writeFileSync(AUDIT, "x\n");
    symlinkSync(victim, join(AUDIT_FOLDER, name));
    logrotate(DEFAULTS, "--force");
    logrotate(DEFAULTS, "--force");
    const { uid, gid, mode, size, mtimeMs, ino } = statSync(victim);
    assert.deepEqual(
      { uid, gid, mode, size, mtimeMs, ino },
      { ...{ uid: 0, gid: 0, mode: before.mode, size: 700 }, ...{ mtimeMs: before.mtimeMs, ino: before.ino } },
    );
    for (const other of readdirSync(AUDIT_FOLDER)) assert.doesNotMatch(plain_or_none(join(AUDIT_FOLDER, other)), /secret/, other);
  }
});

/** What the log's own user can read there. */
function plain_or_none(path: string): string {
  const args = ["--reuid", String(USERS.lowport.uid), "--clear-groups", "sh", "-c", 'zcat -f -- "$1"', "sh", path];
  return spawnSync("setpriv", args, { encoding: "utf8" }).stdout;
}
