/**
 * Promise: on a machine with systemd, one command leaves a running, enabled, hardened service that answers; the second time it is
 * an upgrade without a dropped connection, and `uninstall` leaves no trace but the audit log.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";
import { HARDENED_FLAGS } from "../../shared/node-flags.js";
import { until } from "./helper-process.js";
import { boot, need_inits } from "./real-init.js";
import {
  another_helper,
  copy_checkout,
  get,
  helper_pid,
  is_hardened,
  is_there,
  leases,
  list_disk,
  lowport,
  lowportd,
  start_app,
  status,
} from "./service.js";
import { test_installation, test_upgrade_and_removal } from "./service-tests.js";

await need_inits(import.meta.url, "systemd");

/** The highest exposure that `systemd-analyze security` may find. */
const MAX_EXPOSURE = 1.4;
const UNITS = ["lowport.socket", "lowport.service"];

const box = await boot({ after }, { init: "systemd" });
const before = list_disk(box);
const service = {
  ...{ box, files: UNITS.map((unit) => `/etc/systemd/system/${unit}`), keeps_leases: true, stopped: 3, bounding: 0 },
  start: ["systemctl", "start", ...UNITS],
  stop: ["systemctl", "stop", ...UNITS],
  reload: ["systemctl", "reload", "lowport"],
  is_running: ["systemctl", "is-active", ...UNITS],
  read_log: () => box.do(["journalctl", "-u", "lowport"]),
};
const show = async (property: string, unit = "lowport.service") =>
  (await box.do(["systemctl", "show", "--property", property, "--value", unit])).trim();

test_installation(service, before);

test("systemd knows all of it: the main process, what it does, that it is enabled; and finds no fault", async () => {
  assert.equal(await show("MainPID"), String(helper_pid(box)));
  assert.notEqual(await show("StatusText"), "");
  assert.equal(await show("User"), "lowport");
  for (const unit of UNITS) assert.equal(await show("UnitFileState", unit), "enabled");
  assert.equal(await box.do(["systemctl", "is-system-running"]), "running\n");
  assert.equal(await box.do(["systemd-analyze", "verify", "--man=no", ...UNITS]), "");
});

/** Proves how little the service exposes, with the drop-ins that it has. @returns what it exposes */
async function is_sandboxed(): Promise<string> {
  const report = await box.do(["systemd-analyze", "security", "--no-pager", "lowport.service"]);
  const exposure = /Overall exposure level for \S+: ([\d.]+)/.exec(report)?.[1];
  assert.ok(Number(exposure) <= MAX_EXPOSURE, report);
  return report.replaceAll(/^[^✗]*$/gm, "");
}

test("the sandbox of the service is as hard as it can be", async () => {
  assert.doesNotMatch(
    await is_sandboxed(),
    /NoNewPrivileges|ProtectSystem|SystemCallFilter|RestrictNamespaces|PrivateDevices|ProtectProc/,
  );
});

test("whatever systemd finds fault with is justified in the unit, by name", async () => {
  const unit = readFileSync(box.path("/etc/systemd/system/lowport.service"), "utf8");
  const justified = unit
    .split("\n")
    .filter((line) => line.startsWith("# "))
    .join("\n");
  const found = (await is_sandboxed()).matchAll(/^✗ ([A-Za-z]+)=/gm);
  const names = [...new Set([...found].map((match) => match[1] as string))];
  assert.ok(names.length > 0);
  assert.deepEqual(
    names.filter((name) => !justified.includes(`${name}=`)),
    [],
  );
});

test("--hardened: V8 has no compilers and no page is written and run; an upgrade keeps that, a lease is kept", async (t) => {
  const drop_in = "/etc/systemd/system/lowport.service.d/hardened.conf";
  await start_app(t, box);
  const had = await leases(box);
  const pid = helper_pid(box);
  const { code, stderr } = await lowportd(box, ["install", "--hardened"]);
  assert.equal(code, 0, stderr);
  await another_helper(box, pid);
  assert.deepEqual([await show("MemoryDenyWriteExecute"), await show("ActiveState")], ["yes", "active"]);
  assert.doesNotMatch(await is_sandboxed(), /MemoryDenyWriteExecute/);
  const flags = (await box.do(["cat", `/proc/${helper_pid(box)}/cmdline`])).split("\0");
  assert.deepEqual(flags.slice(1, 1 + HARDENED_FLAGS.length), HARDENED_FLAGS);
  assert.doesNotMatch(await box.do(["cat", `/proc/${helper_pid(box)}/maps`]), / .wx/);
  await is_hardened(box);
  assert.equal(await get(box), "hello from uid 33");
  await until("the lease is active", async () => (await leases(box))[0]?.state === "active");
  assert.equal((await leases(box))[0]?.lease, had[0]?.lease);
  const hardened = helper_pid(box);
  assert.equal((await lowportd(box, ["install"])).code, 0);
  assert.ok(is_there(box, drop_in));
  assert.equal(helper_pid(box), hardened);
  await box.do(["sh", "-c", `rm -r "$(dirname ${drop_in})"; systemctl daemon-reload; systemctl restart lowport`]);
  assert.equal((await lowportd(box, ["install"])).code, 0, "and it is no more where the admin has removed it");
  assert.ok(!is_there(box, drop_in));
});

test("the installed lowportd does not install itself where npm has a new one, and says how to install that", async (t) => {
  const npm = "/usr/local/lib/node_modules/lowport";
  await copy_checkout(box, npm);
  t.after(() => box.do(["sh", "-c", `rm -r ${npm}; rmdir --ignore-fail-on-non-empty "$(dirname ${npm})"`]));
  await box.do(["sh", "-c", `printf '\\n// a new one' >>${npm}/dist/helper/main.cjs`]);
  const { pid } = await status(box);
  const { code, stderr } = await box.run(["/usr/local/sbin/lowportd", "install"]);
  assert.equal(code, 78, stderr);
  const command = /sudo (\S+ \S+\/dist\/helper\/main\.cjs install)/.exec(stderr)?.[1]?.split(" ") ?? [];
  assert.match(await box.do(command), /up to date/);
  assert.notEqual((await status(box)).pid, pid);
  assert.match(await box.do(["tail", "-n", "1", "/usr/local/lib/lowport/current/dist/helper/main.cjs"]), /a new one/);
  assert.equal((await lowportd(box, ["install"])).code, 0, "and back");
});

test("a service that is stopped is told from one that is out of reach", async () => {
  await box.do(service.stop);
  const { code, stderr } = await lowport(box, "status");
  assert.equal(code, 69);
  assert.match(stderr, /systemctl start lowport/);
  await box.do(service.start);
});

test_upgrade_and_removal(service, before);
