/**
 * Promise: on a machine with systemd, one command leaves a running, enabled, hardened service that answers; the second time it is
 * an upgrade without a dropped connection, and `uninstall` leaves no trace but the audit log.
 */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { boot, need_inits } from "./real-init.js";
import { helper_pid, list_disk, lowport } from "./service.js";
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

test("the sandbox of the service is as hard as it can be", async () => {
  const report = await box.do(["systemd-analyze", "security", "--offline=true", "--no-pager", service.files[1] as string]);
  const exposure = /Overall exposure level for \S+: ([\d.]+)/.exec(report)?.[1];
  assert.ok(Number(exposure) <= MAX_EXPOSURE, report);
});

test("a service that is stopped is told from one that is out of reach", async () => {
  await box.do(service.stop);
  const { code, stderr } = await lowport(box, "status");
  assert.equal(code, 69);
  assert.match(stderr, /systemctl start lowport/);
  await box.do(service.start);
});

test_upgrade_and_removal(service, before);
