/**
 * Promise: on a machine with SysV init, one command leaves a running, enabled and hardened service that answers, with a script that
 * keeps to the LSB; the second time it is an upgrade without a dropped connection, and `uninstall` leaves no trace but the audit log.
 */
import assert from "node:assert/strict";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { after, test } from "node:test";
import { boot, need_inits } from "./real-init.js";
import {
  get,
  helper_pid,
  is_hardened,
  is_there,
  LIBRARY,
  list_disk,
  lowportd,
  PID_FILE,
  STARTING,
  start_app,
  start_syslog,
  status,
} from "./service.js";
import { test_installation, test_upgrade_and_removal } from "./service-tests.js";

await need_inits(import.meta.url, "sysv");

const box = await boot({ after }, { init: "sysv" });
const before = list_disk(box);
const read_log = await start_syslog(box);
const script = (...words: string[]) => ["/etc/init.d/lowport", ...words];
const service = {
  ...{ box, files: ["/etc/init.d/lowport"], keeps_leases: false, stopped: 3, bounding: STARTING, read_log },
  ...{ start: script("start"), stop: script("stop"), reload: script("reload"), is_running: script("status") },
};
const code_of = async (...words: string[]) => (await box.run(script(...words))).code;

test_installation(service, before);

test("it is started in each runlevel of service, and stopped in the others", async () => {
  const links = (await box.do(["sh", "-c", "ls -d /etc/rc?.d/???lowport"])).trim().split("\n");
  assert.deepEqual(
    links.map((link) => link.replace(/^\/etc\/rc(.)\.d\/(.)\d\dlowport$/, "$1$2")),
    ["0K", "1K", "2S", "3S", "4S", "5S", "6K"],
  );
  assert.equal(await box.do(["insserv", "--dryrun", "lowport"]), "");
  const depends = ["boot", "start", "stop"].map((kind) => `/etc/init.d/.depend.${kind}`);
  assert.equal(await box.do(["stat", "-c", "%a", ...depends]), "644\n".repeat(3), "insserv's own files are for all to read");
});

test("the exit codes are those of the LSB", async () => {
  const pid = helper_pid(box);
  assert.equal(await code_of("start"), 0, "start where it runs");
  assert.equal(helper_pid(box), pid);
  assert.equal(await code_of("status"), 0);
  for (const words of [[], ["nonsense"], ["start", "stop"]]) assert.equal(await code_of(...words), 2, words.join(" "));
  assert.equal(await code_of("force-reload"), 0);
  assert.equal(await code_of("try-restart"), 0);
  assert.notEqual(helper_pid(box), pid);
  assert.equal((await box.run(script("status"), { user: "alice" })).code, 0);
  assert.equal((await box.run(script("stop"), { user: "alice" })).code, 4, "not allowed");

  assert.equal(await code_of("stop"), 0);
  assert.equal(await code_of("status"), 3);
  assert.equal((await box.run(script("status"), { user: "alice" })).code, 3);
  assert.equal(await code_of("stop"), 0, "stop where it is stopped");
  assert.equal(await code_of("reload"), 7);
  assert.equal(await code_of("try-restart"), 0);
  assert.equal(await code_of("status"), 3, "and so it is still stopped");
  assert.equal(await code_of("restart"), 0);
  assert.equal((await status(box)).pid, helper_pid(box));
});

test("a helper that was killed is told as dead, and can be started again", async (t) => {
  const app = await start_app(t, box);
  const pid = helper_pid(box);
  await box.do(["kill", "-KILL", String(pid)]);
  assert.equal(await code_of("status"), 1);
  assert.equal(await get(box), "hello from uid 33");
  assert.equal(await code_of("start"), 0);
  assert.notEqual(helper_pid(box), pid);
  assert.equal((await status(box)).pid, helper_pid(box));
  await app.stop();
});

test("a pid file that names another process ends nobody", async () => {
  const helper = helper_pid(box);
  await box.do(["kill", "-KILL", String(helper)]);
  const bystander = box.spawn(["sh", "-c", "echo $$; exec sleep 600"], { user: "alice" });
  const pid = await new Promise<string>((resolve) =>
    bystander.stdout?.once("data", (text: Buffer) => resolve(String(text).trim())),
  );
  for (const text of [pid, `${pid}\n`, "1\n", "-1\n", "0\n", "", "nonsense\n", `${"9".repeat(30)}\n`, `1\n${pid}\n`]) {
    await box.do(["sh", "-c", 'cat >"$0"', PID_FILE], { input: text });
    assert.equal(await code_of("status"), 1, JSON.stringify(text));
    assert.equal(await code_of("reload"), 7);
    assert.equal(await code_of("stop"), 0);
    assert.ok(is_there(box, `/proc/${pid}`), JSON.stringify(text));
    assert.ok(!is_there(box, PID_FILE));
  }
  await box.do(["kill", pid]);
  assert.equal(await code_of("start"), 0);
});

test("a configuration that is broken is told when it is started: 6, and nothing runs", async () => {
  const config = readFileSync(box.path("/etc/lowport/lowport.json"), "utf8");
  assert.equal(await code_of("stop"), 0);
  writeFileSync(box.path("/etc/lowport/lowport.json"), "{");
  const { code, stderr } = await box.run(script("start"));
  assert.equal(code, 6);
  assert.match(stderr, /lowport\.json.*is not JSON/);
  assert.equal(await code_of("status"), 3);
  writeFileSync(box.path("/etc/lowport/lowport.json"), config);
  assert.equal(await code_of("start"), 0);
});

test("restart and reload with a broken configuration say why, and the helper that runs is left as it is", async () => {
  const pid = helper_pid(box);
  const rules = box.path("/etc/lowport/rules.d/70-bad.json");
  writeFileSync(rules, '{ "rules": [{ "name": "bad", "users": ["nosuch"], "ports": [81] }] }');
  for (const command of ["restart", "try-restart", "reload", "force-reload"]) {
    const { code, stderr } = await box.run(script(command));
    assert.equal(code, 6, command);
    assert.match(stderr, /70-bad\.json.*there is no user "nosuch"/);
    assert.match(stderr, /so nothing was done/);
    assert.equal((await status(box)).pid, pid, command);
  }
  rmSync(rules);
  assert.equal(await code_of("reload"), 0);
  assert.equal((await status(box)).pid, pid);
});

test("a stranger's process that looks like a helper does not stand for it", async (t) => {
  await box.do(["kill", "-KILL", String(helper_pid(box))]);
  const looks = ["-e", "console.log(process.pid); setInterval(() => {}, 1e6)", `${LIBRARY}/current/dist/helper/main.cjs`, "run"];
  const other = box.spawn([`${LIBRARY}/current/node`, ...looks, "--config", "/etc/lowport/lowport.json"], { user: "alice" });
  t.after(() => other.kill("SIGKILL"));
  const pid = await new Promise<string>((resolve) => other.stdout?.once("data", (text: Buffer) => resolve(String(text).trim())));
  await box.do(["sh", "-c", 'cat >"$0"', PID_FILE], { input: `${pid}\n` });
  assert.equal(await code_of("status"), 1);
  assert.equal(await code_of("start"), 0);
  assert.notEqual(helper_pid(box), Number(pid));
  assert.equal((await status(box)).pid, helper_pid(box));
  await box.do(["kill", pid]);
});

test("what a caller exports does not reach it, nor does a umask or a folder", async () => {
  const pid = helper_pid(box);
  const env = {
    NODE_OPTIONS: "--require=/nonexistent",
    LD_PRELOAD: "/nonexistent.so",
    NODE_PATH: "/tmp",
    PATH: "/tmp:/usr/bin:/bin",
  };
  await box.do(["sh", "-c", 'umask 000; cd /tmp; exec "$@"', "sh", ...script("restart")], { env });
  assert.notEqual(helper_pid(box), pid);
  const proc = box.path(`/proc/${helper_pid(box)}`);
  assert.doesNotMatch(readFileSync(`${proc}/environ`, "utf8"), /nonexistent|NODE_PATH|\/tmp/);
  assert.equal(await box.do(["readlink", `/proc/${helper_pid(box)}/cwd`]), "/\n");
  assert.equal(await box.do(["stat", "-c", "%a", "/run/lowport", PID_FILE, "/run/lowport/lowport.sock"]), "755\n644\n660\n");
  await is_hardened(box, STARTING);
});

test("--hardened is for systemd only: a usage error", async () => {
  const { code, stderr } = await lowportd(box, ["install", "--hardened"]);
  assert.equal(code, 64);
  assert.match(stderr, /--hardened is for systemd/);
});

test_upgrade_and_removal(service, before);
