/**
 * Promise: on a machine with OpenRC, one command leaves a running, enabled, hardened and supervised service that answers; the
 * second time it is an upgrade without a dropped connection, and `uninstall` leaves no trace but the audit log.
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { after, test } from "node:test";
import { boot, need_inits } from "./real-init.js";
import {
  another_helper,
  get,
  helper_pid,
  is_hardened,
  is_there,
  list_disk,
  lowportd,
  PID_FILE,
  STARTING,
  start_app,
  start_syslog,
  status,
} from "./service.js";
import { test_installation, test_upgrade_and_removal } from "./service-tests.js";

await need_inits(import.meta.url, "openrc");

const box = await boot({ after }, { init: "openrc" });
const before = list_disk(box);
const read_log = await start_syslog(box);
const rc = (...words: string[]) => ["rc-service", "lowport", ...words];
const service = {
  ...{ box, files: ["/etc/init.d/lowport"], keeps_leases: false, stopped: 3, bounding: STARTING, read_log },
  ...{ start: rc("start"), stop: rc("stop"), reload: rc("reload"), is_running: rc("status") },
};

test_installation(service, before);

test("OpenRC has it in its runlevel, and knows that it is started", async () => {
  assert.match(await box.do(["rc-update", "show", "default"]), /^ *lowport \| *default/m);
  assert.match(await box.do(["rc-status", "default"]), /lowport +\[ +started/);
});

test("a helper that is killed is started again, and the app serves on", async (t) => {
  const app = await start_app(t, box);
  for (let round = 1; round <= 2; round++) {
    const pid = helper_pid(box);
    await box.do(["kill", "-KILL", String(pid)]);
    assert.equal(await get(box), "hello from uid 33");
    assert.equal(await another_helper(box, pid), helper_pid(box));
    await is_hardened(box, STARTING);
    await box.do(service.is_running);
  }
  await app.stop();
});

test("a configuration that is broken is told when it is started, and nothing runs", async () => {
  const config = readFileSync(box.path("/etc/lowport/lowport.json"), "utf8");
  await box.do(service.stop);
  writeFileSync(box.path("/etc/lowport/lowport.json"), "{");
  const { code, stderr, stdout } = await box.run(service.start);
  assert.notEqual(code, 0);
  assert.match(stderr + stdout, /lowport\.json.*is not JSON/);
  assert.equal((await box.run(service.is_running)).code, service.stopped);
  assert.ok(!is_there(box, PID_FILE));
  writeFileSync(box.path("/etc/lowport/lowport.json"), config);
  await box.do(service.start);
  assert.equal((await status(box)).pid, helper_pid(box));
});

test("restart and reload with a broken configuration say why, and the helper that runs is left as it is", async () => {
  const pid = helper_pid(box);
  const rules = box.path("/etc/lowport/rules.d/70-bad.json");
  writeFileSync(rules, '{ "rules": [{ "name": "bad", "users": ["nosuch"], "ports": [81] }] }');
  for (const command of ["restart", "reload"]) {
    const { code, stderr, stdout } = await box.run(rc(command));
    assert.notEqual(code, 0, command);
    assert.match(stderr + stdout, /70-bad\.json.*there is no user "nosuch"/);
    assert.match(stderr + stdout, /the configuration is not valid, so lowport is not re/);
    assert.equal((await status(box)).pid, pid, command);
    await box.do(service.is_running);
  }
  await box.do(["rm", "/etc/lowport/rules.d/70-bad.json"]);
  await box.do(service.reload);
  assert.equal((await status(box)).pid, pid);
  await box.do(rc("restart"));
  assert.notEqual((await status(box)).pid, pid);
});

test("what a caller exports does not reach it, nor does a umask", async () => {
  const pid = helper_pid(box);
  const env = { NODE_OPTIONS: "--require=/nonexistent", LD_PRELOAD: "/nonexistent.so", NODE_PATH: "/tmp" };
  await box.do(["sh", "-c", 'umask 000; exec "$@"', "sh", ...service.is_running.with(2, "restart")], { env });
  assert.notEqual(helper_pid(box), pid);
  const environment = readFileSync(box.path(`/proc/${helper_pid(box)}/environ`), "utf8");
  assert.doesNotMatch(environment, /nonexistent|NODE_PATH/);
  assert.equal(await box.do(["stat", "-c", "%a", "/run/lowport", PID_FILE, "/run/lowport/lowport.sock"]), "755\n644\n660\n");
});

test("--hardened is for systemd only: a usage error", async () => {
  const { code, stderr } = await lowportd(box, ["install", "--hardened"]);
  assert.equal(code, 64);
  assert.match(stderr, /--hardened is for systemd/);
});

test_upgrade_and_removal(service, before);
