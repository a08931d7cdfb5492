/**
 * Promise: `lowport audit tail` and `audit verify` read the helper's own log, over its rotation, without being told where it is;
 * what else somebody puts into its folder is neither followed nor waited for; and only who may read it can.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { type TestContext, test } from "node:test";
import { gzipSync } from "node:zlib";
import { EXIT } from "../../shared/protocol.js";
import { enter_box, REPOSITORY, USERS } from "./box.js";
import { both_ways, lowport } from "./client-command.js";
import {
  AUDIT,
  AUDIT_FOLDER,
  clear_audit_log,
  type Helper,
  read_audit,
  start_helper,
  until,
  write_config,
} from "./helper-process.js";

await enter_box(import.meta.url);

/** As `lowportd install` makes it: for group adm to read. */
function open_to_adm(): void {
  chownSync(AUDIT_FOLDER, USERS.lowport.uid, 4);
  chmodSync(AUDIT_FOLDER, 0o2750);
}

/** A helper whose log group adm may read. */
async function start(t: TestContext): Promise<Helper> {
  write_config();
  clear_audit_log();
  open_to_adm();
  rmSync("/run/lowport", { recursive: true, force: true });
  return start_helper(t, { keep: true });
}

/** Rotates as logrotate does. */
async function rotate(helper: Helper, nth: number): Promise<void> {
  for (let n = nth - 1; n >= 1; n--) renameSync(`${AUDIT}.${n}`, `${AUDIT}.${n + 1}`);
  renameSync(AUDIT, `${AUDIT}.1`);
  helper.process.kill("SIGUSR1");
  await until("the helper goes on in a new file", () => {
    try {
      return read_audit().some(({ event }) => event === "rotate");
    } catch {
      return false;
    }
  });
}

test("tail --follow tells each record of a helper that is asked while its log is rotated, once and in order", async (t) => {
  const helper = await start(t);
  const cli = [`${REPOSITORY}/dist/client/cli.js`, "audit", "tail", "--follow", "--json"];
  const child = spawn(process.execPath, cli, { stdio: ["ignore", "pipe", "pipe"] });
  t.after(() => child.kill("SIGKILL"));
  const seqs: number[] = [];
  createInterface({ input: child.stdout }).on("line", (line) => seqs.push(JSON.parse(line).seq));
  await until("it tells of the start", () => seqs.length > 0);
  for (let nth = 1; nth <= 3; nth++) {
    const asked = Promise.all([1, 2, 3].map(() => lowport(USERS.alice, ["check", "tcp", "80"])));
    await rotate(helper, nth);
    await asked;
  }
  await helper.stop();
  const last = read_audit().at(-1);
  assert.equal(last?.event, "stop");
  await until("it tells of the stop", () => seqs.at(-1) === last?.seq);
  child.kill("SIGINT");
  assert.deepEqual(await once(child, "close"), [0, null]);
  assert.deepEqual(
    seqs,
    Array.from({ length: last?.seq ?? 0 }, (_, i) => i + 1),
  );
  const verified = await both_ways(USERS.olaf, ["audit", "verify"], EXIT.ok);
  assert.deepEqual(verified.json.files, [`${AUDIT}.3`, `${AUDIT}.2`, `${AUDIT}.1`, AUDIT]);
  assert.deepEqual([verified.json.first, verified.json.head.seq], [1, last?.seq]);
  assert.match(verified.text.stdout, /^ok: \d+ lines in 4 files, records 1 to /);
});

test("tail says who asked for what, and what was answered; with the filters", async (t) => {
  await start(t);
  await both_ways(USERS.alice, ["check", "tcp", "80"], EXIT.ok);
  await both_ways(USERS.bob, ["check", "tcp", "80"], EXIT.refused);
  await lowport(USERS.alice, ["revoke", "abcdef0123456789"]);
  const rows_of = async (...filters: string[]) => {
    const { code, stdout } = await lowport(USERS.olaf, ["audit", "tail", ...filters]);
    assert.equal(code, EXIT.ok);
    return stdout.split("\n").map((line) => line.split(/ {2,}/).slice(1));
  };
  const checks = await rows_of("--method", "check", "--port", "80");
  assert.deepEqual(
    checks.map((row) => row.slice(0, 3)),
    [
      ["2001 (alice)", "check tcp [::]:80", "allow"],
      ["2001 (alice)", "check tcp [::]:80", "allow"],
      ["2002 (bob)", "check tcp [::]:80", "allow"], // to ask is allowed, whatever the answer
      ["2002 (bob)", "check tcp [::]:80", "allow"],
      [],
    ],
  );
  const [revoke] = await rows_of("--user", "alice", "--event", "call", "--lines", "1");
  assert.match(revoke?.join(" ") ?? "", /^2001 \(alice\) revoke abcdef0123456789 deny .*EACCES: /);
  const denied = await lowport(USERS.olaf, ["audit", "tail", "--json", "--method", "revoke", "--decision", "deny"]);
  assert.equal(JSON.parse(denied.stdout).peer.uid, USERS.alice.uid);
});

test("who may not read it is told which group may: 77", async (t) => {
  await start(t);
  for (const verb of ["tail", "verify"]) {
    const { code, stderr } = await lowport(USERS.alice, ["audit", verb]);
    assert.equal(code, EXIT.noPermission);
    assert.match(stderr, /cannot be read by this user: group "adm" may/);
  }
});

test("links, fifos and bombs among the rotated files: found, not followed, not waited for; also by root's doctor", async (t) => {
  const helper = await start(t);
  await lowport(USERS.alice, ["list"]);
  await helper.stop();
  const bomb = Buffer.concat(Array.from({ length: 20 }).fill(gzipSync(Buffer.alloc(2 ** 26))) as Buffer[]);
  symlinkSync("/etc/shadow", `${AUDIT}.5`);
  assert.equal(spawnSync("mkfifo", [`${AUDIT}.4`]).status, 0);
  assert.equal(spawnSync("mknod", [`${AUDIT}.3`, "c", "1", "5"]).status, 0);
  writeFileSync(`${AUDIT}.2.gz`, bomb);
  const { json, text } = await both_ways(USERS.root, ["audit", "verify"], EXIT.foundWrong);
  assert.deepEqual(
    json.damage.map(({ file, line, kind }: { file: string; line: number; kind: string }) => [file, line, kind]),
    [
      [`${AUDIT}.5`, 0, "inserted"],
      [`${AUDIT}.4`, 0, "inserted"],
      [`${AUDIT}.3`, 0, "inserted"],
      [`${AUDIT}.2.gz`, 0, "edited"],
    ],
  );
  assert.doesNotMatch(text.stdout, /root:/);
  const tail = await lowport(USERS.root, ["audit", "tail", "--lines", "1000"]);
  assert.equal(tail.code, EXIT.ok);
  assert.equal(tail.stdout.trimEnd().split("\n").length, read_audit().length);
  const doctor = await lowport(USERS.root, ["doctor", "--json"]);
  assert.match(JSON.stringify(JSON.parse(doctor.stdout)), /"audit-chain"/);
});
