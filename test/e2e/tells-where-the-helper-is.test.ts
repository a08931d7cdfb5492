/**
 * Promise: `lowport status` says which it is: running, stopped, stale, out of reach for this user, or there without an
 * answer; and what to do about it. With --wait it waits until the helper runs.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chownSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { dirname } from "node:path";
import { type TestContext, test } from "node:test";
import { EXIT } from "../../shared/protocol.js";
import { enter_box, names_in, USERS } from "./box.js";
import { freeze } from "./client-app.js";
import { both_ways, lowport } from "./client-command.js";
import { type Helper, type Options, start_helper, until } from "./helper-process.js";

await enter_box(import.meta.url);

const SOCKET = "/run/lowport/lowport.sock";
const PID_FILE = "/run/lowport/lowport.pid";

const read_proc = (pid: string, name: string) => {
  try {
    return readFileSync(`/proc/${pid}/${name}`, "utf8");
  } catch {
    return ""; // it has ended
  }
};
const processes_with = (word: string) => names_in("/proc").filter((pid) => read_proc(pid, "cmdline").split("\0").includes(word));
const maps_of = (pid: string) => read_proc(pid, "maps");

/** A helper with the pid file that root writes. */
async function start(t: TestContext, options: Options = {}): Promise<Helper> {
  const helper = await start_helper(t, options);
  mkdirSync(dirname(PID_FILE), { recursive: true });
  writeFileSync(PID_FILE, `${helper.pid}\n`);
  return helper;
}

test("running: 0, with its pid file or without", async (t) => {
  const helper = await start_helper(t);
  const { json } = await both_ways(USERS.alice, ["status"], EXIT.ok);
  assert.deepEqual([json.state, json.pid, json.pidFile], ["running", helper.pid, undefined]);
  writeFileSync(PID_FILE, `${helper.pid}\n`);
  const again = await both_ways(USERS.alice, ["status"], EXIT.ok);
  assert.deepEqual(again.json.pidFile, { path: PID_FILE, pid: helper.pid, alive: true });
  assert.doesNotMatch(again.text.stdout, /lowport\.pid/, "nothing to be told");
});

test("running, and the pid file names another: 0, and it is told", async (t) => {
  await start_helper(t);
  writeFileSync(PID_FILE, "1\n");
  const { text, json } = await both_ways(USERS.alice, ["status"], EXIT.ok);
  assert.match(text.stdout, /^\/run\/lowport\/lowport\.pid names process 1 and not the one that answers/m);
  assert.deepEqual(json.pidFile, { path: PID_FILE, pid: 1, alive: false });
});

test("stopped: no socket, or nobody who listens; 69, and how to start it", async (t) => {
  const helper = await start_helper(t);
  await helper.stop();
  const left = await both_ways(USERS.alice, ["status"], EXIT.unreachable);
  assert.deepEqual([left.json.state, left.json.error.code], ["stopped", "ECONNREFUSED"]);
  assert.match(left.text.stderr, /is not running\. Install it as a service with `sudo lowportd install`/);
  rmSync(SOCKET);
  const none = await both_ways(USERS.alice, ["status"], EXIT.unreachable);
  assert.deepEqual([none.json.state, none.json.error.code], ["stopped", "ENOENT"]);
});

test("stopped by hand: whoever may read the audit log is told so, any other that it may be", async (t) => {
  const helper = await start(t);
  await helper.stop("SIGTERM");
  const root = await both_ways(USERS.root, ["status"], EXIT.unreachable);
  assert.deepEqual([root.json.state, root.json.left], ["stopped", [PID_FILE, SOCKET]]);
  assert.match(
    root.text.stderr,
    new RegExp(`it was stopped, and has left ${PID_FILE} and ${SOCKET}, which the next one takes over`),
  );
  const alice = await both_ways(USERS.alice, ["status"], EXIT.unreachable);
  assert.equal(alice.json.state, "stale");
  assert.match(alice.text.stderr, new RegExp(`process ${helper.pid} is gone, stopped or failed, and has left`));
});

test("the pid file of a service whose socket is elsewhere is found, and only for that socket", async (t) => {
  const path = "/run/other/my.sock";
  const helper = await start(t, { config: { socket: { path } } });
  const { json } = await both_ways(USERS.root, ["status", "--socket", path], EXIT.ok);
  assert.deepEqual(json.pidFile, { path: PID_FILE, pid: helper.pid, alive: true });
  await freeze(helper);
  const hung = await both_ways(USERS.root, ["status", "--socket", path], EXIT.unreachable);
  assert.match(hung.text.stderr, /was stopped by a signal/);
  const none = await both_ways(USERS.root, ["status", "--socket", "/run/none/my.sock"], EXIT.unreachable);
  assert.deepEqual([none.json.state, none.json.pidFile], ["stopped", undefined]);
});

test("stale too if its number is a stranger's process that looks like a helper", async (t) => {
  for (const config of ["/etc/lowport/lowport.json", "/run/mallory.json", "/run/none.json"]) await stands_in(t, config);
});

/** Mallory's process with a helper's command line, in the place of a helper that was killed. */
async function stands_in(t: TestContext, config: string): Promise<void> {
  const helper = await start(t);
  await helper.stop("SIGKILL");
  writeFileSync("/run/mallory.json", '{ "user": "mallory" }');
  chownSync("/run/mallory.json", 2005, 2005);
  const ids = ["--reuid=2005", "--regid=2005", "--clear-groups"];
  const looks = ["sh", "-c", "read nothing", "/usr/local/sbin/lowportd", "run", "--config", config];
  const other = spawn("setpriv", [...ids, ...looks], { stdio: ["pipe", "ignore", "ignore"] });
  t.after(() => other.kill("SIGKILL"));
  await until("it is mallory's", () => read_proc(String(other.pid), "status").includes("Uid:\t2005\t2005"));
  writeFileSync(PID_FILE, `${other.pid}\n`);
  const { json } = await both_ways(USERS.alice, ["status"], EXIT.unreachable);
  assert.deepEqual([json.state, json.pidFile], ["stale", { path: PID_FILE, pid: other.pid, alive: false }]);
}

test("a member of the group is not told to join it", async (t) => {
  await (await start(t)).stop();
  rmSync("/run/lowport", { recursive: true });
  const alice = await both_ways(USERS.alice, ["status"], EXIT.unreachable);
  assert.match(alice.text.stderr, /there is no lowport helper at/);
  assert.doesNotMatch(alice.text.stderr, /group|usermod/);
  const mallory = await both_ways(USERS.mallory, ["status"], EXIT.unreachable);
  assert.match(mallory.text.stderr, /sudo usermod -aG lowport mallory/);
});

test("stale: the process that the pid file names is gone; 69, with the files that it left", async (t) => {
  const helper = await start(t);
  await helper.stop("SIGKILL");
  const { text, json } = await both_ways(USERS.alice, ["status"], EXIT.unreachable);
  assert.deepEqual([json.state, json.left], ["stale", [PID_FILE, SOCKET]]);
  assert.deepEqual(json.pidFile, { path: PID_FILE, pid: helper.pid, alive: false });
  assert.match(
    text.stderr,
    new RegExp(`process ${helper.pid} is gone, stopped or failed, and has left ${PID_FILE} and ${SOCKET}`),
  );
  assert.match(text.stderr, /the next one takes over\. Install it/);
  rmSync(SOCKET);
  assert.deepEqual((await both_ways(USERS.alice, ["status"], EXIT.unreachable)).json.left, [PID_FILE]);
});

test("stale too if its number is another program's by now", async (t) => {
  const helper = await start(t);
  await helper.stop("SIGKILL");
  const other = spawn("sleep", ["60"]);
  t.after(() => other.kill("SIGKILL"));
  writeFileSync(PID_FILE, `${other.pid}\n`);
  const { json } = await both_ways(USERS.alice, ["status"], EXIT.unreachable);
  assert.deepEqual([json.state, json.pidFile], ["stale", { path: PID_FILE, pid: other.pid, alive: false }]);
});

test("out of reach: 77, that it runs, and the group by its name", async (t) => {
  const helper = await start(t, { config: { socket: { group: "web" } } });
  const { text, json } = await both_ways(USERS.mallory, ["status"], EXIT.noPermission);
  assert.deepEqual([json.state, json.group, json.error.code], ["unreachable", "web", "EACCES"]);
  assert.match(text.stderr, new RegExp(`is running \\(pid ${helper.pid}\\), but out of reach: .*must be in group "web"`));
  assert.match(text.stderr, /sudo usermod -aG web mallory/);
  rmSync(PID_FILE);
  const unseen = await both_ways(USERS.mallory, ["status"], EXIT.noPermission);
  assert.equal(unseen.json.state, "unreachable");
  assert.doesNotMatch(unseen.text.stderr, /is running/, "that cannot be seen");
});

test("out of reach because the session is older than the membership: log in again", async (t) => {
  await start(t);
  const groups = readFileSync("/etc/group", "utf8");
  t.after(() => writeFileSync("/etc/group", groups));
  writeFileSync("/etc/group", groups.replace(/^lowport:x:990:.*$/m, "lowport:x:990:bob,mallory"));
  const { text, json } = await both_ways(USERS.mallory, ["status"], EXIT.noPermission);
  assert.deepEqual([json.state, json.group], ["unreachable", "lowport"]);
  assert.match(text.stderr, /user mallory is in group "lowport", but this session began before that: log in again/);
});

test("out of reach because this user has too many connections: 69, and that it runs", async (t) => {
  await start(t, { config: { limits: { connectionsPerUid: 1 } } });
  const taken = connect(SOCKET); // root's
  t.after(() => taken.destroy());
  await until("root has its one connection", async () => (await lowport(USERS.root, ["list"])).code !== 0);
  const { text, json } = await both_ways(USERS.root, ["status"], EXIT.unreachable);
  assert.deepEqual([json.state, json.error.code], ["unreachable", "EDQUOT"]);
  assert.match(text.stderr, /is running, but out of reach/);
});

test("hung: stopped by a signal; 69, and how it goes on", async (t) => {
  const helper = await start(t);
  await freeze(helper);
  const { text, json } = await both_ways(USERS.alice, ["status"], EXIT.unreachable);
  assert.deepEqual([json.state, json.error.code], ["hung", "ETIMEDOUT"]);
  assert.match(text.stderr, new RegExp(`was stopped by a signal and does not answer; sudo kill -CONT ${helper.pid}`));
});

test("hung: it runs, but somebody removed its socket", async (t) => {
  const helper = await start(t);
  rmSync(SOCKET);
  const { text, json } = await both_ways(USERS.alice, ["status"], EXIT.unreachable);
  assert.equal(json.state, "hung");
  assert.match(text.stderr, new RegExp(`runs \\(pid ${helper.pid}\\), but its socket ${SOCKET} was removed; restart it`));
});

test("--wait: it answers as soon as the helper runs", async (t) => {
  await (await start(t)).stop("SIGKILL");
  const waiting = lowport(USERS.alice, ["status", "--json", "--wait", "60"]);
  await until("it has the addon, by which it connects", () =>
    processes_with("--wait").some((pid) => maps_of(pid).includes("lowport.node")),
  );
  const helper = await start_helper(t, { keep: true });
  const { code, stdout } = await waiting;
  assert.equal(code, EXIT.ok);
  assert.equal(JSON.parse(stdout).pid, helper.pid);
});

test("--wait: when the time is over it says how it stands", async (t) => {
  await (await start(t)).stop("SIGKILL");
  const before = performance.now();
  const { json } = await both_ways(USERS.alice, ["status", "--wait", "1"], EXIT.unreachable);
  assert.equal(json.state, "stale");
  assert.ok(performance.now() - before >= 1800, "both waited");
  assert.equal((await lowport(USERS.alice, ["status", "--wait", "soon"])).code, EXIT.usage);
});
