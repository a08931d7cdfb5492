/**
 * Promise: `lowportd doctor`, and `lowport doctor` which is the same, makes the checks that an admin would make by hand: each is ok,
 * or wrong with its cure (exit 2), or unknown to this user. Each check is made to fail here once, on a helper that runs.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { appendFileSync, chmodSync, chownSync, readFileSync, renameSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { type TestContext, test } from "node:test";
import type { Finding } from "../../helper/admin/findings.js";
import { EXIT } from "../../shared/protocol.js";
import { make_line } from "../client/audit-log.js";
import { enter_box, LOWPORT_GID, USERS, WEB_GID } from "./box.js";
import { freeze } from "./client-app.js";
import { lowport } from "./client-command.js";
import {
  AUDIT,
  AUDIT_FOLDER,
  CONFIG,
  type Helper,
  type Options,
  read_audit,
  run_helper,
  start_helper,
  until,
} from "./helper-process.js";

await enter_box(import.meta.url);

const SOCKET = "/run/lowport/lowport.sock";
const PID_FILE = "/run/lowport/lowport.pid";
/** Of a checkout it depends on who owns it; of a service, on one that is installed. */
const ELSEWHERE = new Set(["program", "drift", "service"]);

async function start(t: TestContext, options: Options = {}): Promise<Helper> {
  const helper = await start_helper(t, options);
  writeFileSync(PID_FILE, `${helper.pid}\n`);
  chmodSync(AUDIT_FOLDER, 0o2750);
  return helper;
}

/** What the doctor finds, but for what is tested elsewhere. */
async function examine(t: TestContext, wrapper: readonly string[] = []): Promise<Finding[]> {
  const { code, stdout, stderr } = await run_helper(t, { args: ["doctor", "--json", "--config", CONFIG], wrapper });
  assert.equal(stderr, "");
  const findings = JSON.parse(stdout) as Finding[];
  for (const { state, detail, cure, check } of findings) {
    assert.notEqual(detail, "", check);
    assert.ok(state !== "wrong" || cure !== "", `${check} has a cure`);
  }
  assert.equal(code, findings.some(({ state }) => state === "wrong") ? EXIT.foundWrong : EXIT.ok);
  return findings.filter(({ check }) => !ELSEWHERE.has(check));
}

/** Asserts that this one check finds this wrong, and no other anything. */
async function finds(t: TestContext, check: string, pattern: RegExp): Promise<void> {
  const findings = await examine(t);
  const bad = findings.filter(({ state }) => state !== "ok");
  assert.deepEqual([...new Set(bad.map((one) => one.check))], [check], JSON.stringify(bad));
  assert.match(bad.map(({ detail }) => detail).join("\n"), pattern);
}

const CHECKS = "node posix addon config answer privileges pid-file socket exec audit-log audit-chain clock disk".split(" ");

test("a sound helper: all ok, as text, as JSON, and by either command", async (t) => {
  const helper = await start(t);
  const findings = await examine(t);
  assert.deepEqual(
    findings.map(({ check }) => check),
    CHECKS,
  );
  assert.deepEqual(
    findings.filter(({ state }) => state !== "ok"),
    [],
  );
  assert.match(
    findings.find(({ check }) => check === "privileges")?.detail ?? "",
    new RegExp(`process ${helper.pid}, uid ${USERS.lowport.uid}`),
  );
  const { stdout } = await lowport(USERS.root, ["doctor"]);
  for (const check of CHECKS) assert.match(stdout, new RegExp(`^ok {7}${check} `, "m"));
  const again = JSON.parse((await lowport(USERS.root, ["doctor", "--json", "--config", CONFIG])).stdout) as Finding[];
  assert.deepEqual(
    again.map(({ check, state }) => ({ check, state })).filter(({ check }) => !ELSEWHERE.has(check)),
    findings.map(({ check, state }) => ({ check, state })),
  );
});

test("an unprivileged user learns what it may see, and the rest is unknown; a stranger's environment is not heeded", async (t) => {
  await start(t);
  const { stdout } = await lowport(USERS.mallory, ["doctor", "--json"], { NODE_OPTIONS: "--no-such-option-of-lowport" });
  assert.equal(stdout, "", "node itself refuses it");
  const { stdout: text } = await lowport(USERS.mallory, ["doctor", "--json"], {
    LOWPORT_SOCKET: "/nowhere",
    NODE_PATH: "/nowhere",
  });
  const findings = (JSON.parse(text) as Finding[]).filter(({ check }) => !ELSEWHERE.has(check));
  const unknown = findings.filter(({ state }) => state === "unknown");
  assert.deepEqual(
    unknown.map(({ check }) => check),
    ["answer", "audit-log", "audit-chain", "clock"],
  );
  for (const { cure } of unknown) assert.equal(cure, "sudo lowportd doctor");
  assert.deepEqual(
    findings.filter(({ state }) => state === "wrong"),
    [],
  );
});

test("config: each fault, and one that a reload could not read", async (t) => {
  await start(t);
  const good = readFileSync(CONFIG, "utf8");
  chmodSync(CONFIG, 0o600);
  await finds(t, "config", /lowport\.json cannot be read by lowport: a reload takes no new rules/);
  chownSync(CONFIG, 0, LOWPORT_GID);
  chmodSync(CONFIG, 0o640);
  assert.deepEqual(
    (await examine(t)).filter(({ state }) => state !== "ok"),
    [],
  );
  writeFileSync("/etc/lowport/rules.d/a.json", '{ "rules": [] }', { mode: 0o600 });
  await finds(t, "config", /rules\.d\/a\.json cannot be read by lowport/);
  rmSync("/etc/lowport/rules.d/a.json");
  chmodSync(CONFIG, 0o646);
  assert.match(JSON.stringify(await examine(t)), /can be written by others/);
  writeFileSync(CONFIG, good.replace('"alice"', '"nosuch"'));
  chmodSync(CONFIG, 0o644);
  const findings = await examine(t);
  assert.deepEqual(
    findings.filter(({ state }) => state === "wrong").map(({ check }) => check),
    ["config"],
  );
  assert.match(findings.find(({ check }) => check === "config")?.detail ?? "", /\/rules\/0\/users\/0: there is no user "nosuch"/);
  const others = findings.filter(({ check }) => check !== "config");
  assert.deepEqual(
    others.filter(({ state }) => state !== "ok"),
    [],
    "what is not in the rules is known all the same",
  );
  rmSync(CONFIG);
  const none = (await examine(t)).find(({ check }) => check === "config");
  assert.deepEqual([none?.detail, none?.cure], [`there is no ${CONFIG}`, "sudo lowportd install writes one"]);
});

test("config: changed, and not taken yet", async (t) => {
  const helper = await start(t);
  utimesSync(CONFIG, new Date(), new Date()); // the kernel's own times are some milliseconds behind
  await finds(t, "config", /lowport\.json was changed after the helper read it, at /);
  helper.process.kill("SIGHUP");
  await helper.recorded("the reload", ({ event }) => event === "reload");
  await until("it is in force", async () => (await examine(t)).every(({ state }) => state === "ok"));
});

test("answer: a helper that hangs, and one that is gone", async (t) => {
  const helper = await start(t);
  await freeze(helper);
  await finds(t, "answer", /was stopped by a signal/);
  await helper.stop("SIGKILL");
  const findings = await examine(t);
  const bad = findings.filter(({ state }) => state === "wrong").map(({ check }) => check);
  assert.deepEqual(bad, ["answer"]);
  assert.match(
    findings.find(({ check }) => check === "pid-file")?.detail ?? "",
    /which has ended; the next helper writes it anew/,
  );
  assert.equal(findings.find(({ check }) => check === "privileges")?.state, "unknown");
});

test("privileges: a process that has kept root's", async (t) => {
  await (await start(t)).stop();
  const impostor = spawn("/bin/sh", ["-c", "read nothing", "/usr/local/sbin/lowportd"], { stdio: ["pipe", "ignore", "ignore"] });
  t.after(() => impostor.kill("SIGKILL"));
  writeFileSync(PID_FILE, `${impostor.pid}\n`);
  const findings = await examine(t);
  const { state, detail } = findings.find(({ check }) => check === "privileges") as Finding;
  assert.equal(state, "wrong");
  for (const field of ["Uid", "CapEff", "NoNewPrivs", "Seccomp"]) assert.match(detail, new RegExp(`${field} is`));
});

test("pid-file: garbage, another process, and one that others may write", async (t) => {
  const helper = await start(t);
  writeFileSync(PID_FILE, "garbage");
  await finds(t, "pid-file", /holds no process id/);
  writeFileSync(PID_FILE, "1\n");
  await finds(t, "pid-file", /names process 1, which is no lowport helper/);
  writeFileSync(PID_FILE, `${helper.pid}\n`);
  chmodSync(PID_FILE, 0o666);
  await finds(t, "pid-file", /others than root decide whom root signals/);
  rmSync(PID_FILE);
  assert.deepEqual(
    (await examine(t)).filter(({ state }) => state !== "ok"),
    [],
  );
});

test("socket: mode, owner, group, and its folder", async (t) => {
  await start(t);
  chmodSync(SOCKET, 0o666);
  await finds(t, "socket", /has mode 0666 and not 0660/);
  chmodSync(SOCKET, 0o660);
  chownSync(SOCKET, 0, WEB_GID);
  await finds(t, "socket", new RegExp(`belongs to 0:${WEB_GID} and not to 0:${LOWPORT_GID}`));
  chownSync(SOCKET, 0, LOWPORT_GID);
  chmodSync("/run/lowport", 0o1777);
  await finds(t, "socket", /\/run\/lowport can be written by others than root/);
  chmodSync("/run/lowport", 0o777);
  await finds(t, "socket", /others could put a socket of their own there/);
});

test("audit-log: who may write it", async (t) => {
  await start(t);
  chmodSync(AUDIT, 0o666);
  await finds(t, "audit-log", /has mode 0666/);
  chmodSync(AUDIT, 0o600);
  chownSync(AUDIT, USERS.alice.uid, 0);
  await finds(t, "audit-log", /audit\.log belongs to uid 2001 and not to lowport/);
  chownSync(AUDIT, USERS.lowport.uid, 0);
  chmodSync(AUDIT_FOLDER, 0o777);
  await finds(t, "audit-log", /others can replace the log/);
});

test("audit-chain: a line that was edited, and one that was cut off, although the rest fits", async (t) => {
  await start(t);
  for (let i = 0; i < 3; i++) await lowport(USERS.alice, ["list"]);
  const good = readFileSync(AUDIT, "utf8");
  writeFileSync(AUDIT, good.replace('"uid":2001', '"uid":2002'));
  await finds(t, "audit-chain", /audit\.log:\d+: edited/);
  writeFileSync(AUDIT, `${good.split("\n").slice(0, 2).join("\n")}\n`);
  const findings = await examine(t);
  assert.match(findings.find(({ check }) => check === "audit-chain")?.detail ?? "", /removed|truncated/);
});

test("audit-chain: it is followed over rotated files", async (t) => {
  const helper = await start(t);
  renameSync(AUDIT, `${AUDIT}.1`);
  helper.process.kill("SIGUSR1");
  await helper.said("rotate");
  await lowport(USERS.alice, ["list"]);
  const chain = (await examine(t)).find(({ check }) => check === "audit-chain");
  assert.deepEqual([chain?.state, /in 2 files/.test(chain?.detail ?? "")], ["ok", true], chain?.detail);
});

test("clock: it is before the last record", async (t) => {
  await (await start(t)).stop();
  rmSync(PID_FILE);
  const last = read_audit().at(-1);
  const future = new Date(Date.now() + 3_600_000).toISOString();
  appendFileSync(AUDIT, `${make_line({ seq: (last?.seq ?? 0) + 1, time: future, event: "start" }, last?.hash ?? "").line}\n`);
  const findings = await examine(t);
  assert.deepEqual(
    findings.filter(({ state }) => state === "wrong").map(({ check }) => check),
    ["answer", "clock"],
  );
  assert.match(
    findings.find(({ check }) => check === "clock")?.detail ?? "",
    new RegExp(`the last audit record is of ${future}`),
  );
});

test("disk: the log's is full, or has no inodes left", async (t) => {
  await start(t);
  for (const [options, pattern] of [
    ["size=1m", /audit|log\/lowport has [01] MiB free/],
    ["size=100m,nr_inodes=20", /log\/lowport has \d+ inodes free/],
  ] as const) {
    const mount = ["-t", "tmpfs", "-o", `${options},mode=0750,uid=${USERS.lowport.uid}`, "box", AUDIT_FOLDER];
    assert.equal(spawnSync("mount", mount).status, 0);
    try {
      const disk = (await examine(t)).find(({ check }) => check === "disk");
      assert.equal(disk?.state, "wrong");
      assert.match(disk?.detail ?? "", pattern);
    } finally {
      assert.equal(spawnSync("umount", [AUDIT_FOLDER]).status, 0);
    }
  }
});
