/**
 * What holds for an installed service whatever the init is: the tests that installs-on-systemd, installs-on-openrc and
 * installs-on-sysv have in common. They share one machine, and run in this order.
 */
import assert from "node:assert/strict";
import { readlinkSync } from "node:fs";
import { test } from "node:test";
import { until } from "./helper-process.js";
import { CHECKOUT, NODE, type RealBox } from "./real-init.js";
import {
  another_helper,
  copy_checkout,
  get,
  helper_pid,
  install,
  is_hardened,
  is_roots_alone,
  is_there,
  LIBRARY,
  Load,
  leases,
  list_disk,
  list_volatile,
  lowport,
  lowportd,
  RULE,
  same_disk,
  start_app,
  status,
  verify_audit,
} from "./service.js";

export interface Service {
  readonly box: RealBox;
  /** What the init has of it. */
  readonly files: readonly string[];
  readonly start: readonly string[];
  readonly stop: readonly string[];
  readonly reload: readonly string[];
  readonly is_running: readonly string[];
  /** Exit code of is_running where it is stopped. */
  readonly stopped: number;
  /** See is_hardened. */
  readonly bounding: number;
  /** Whether a lease outlives the helper. */
  readonly keeps_leases: boolean;
  /** Where the reason of a failed reload is told. */
  read_log(): string | Promise<string>;
}

const LOG = "/var/log/lowport";
const ROTATED = `${LOG}/audit.log.1`;

/** From a machine without lowport to one with it. */
export function test_installation(service: Service, before: ReadonlyMap<string, string>): void {
  const { box } = service;

  test("--dry-run says what an install would change, and changes nothing", async () => {
    const { code, stdout } = await lowportd(box, ["install", "--dry-run", "--allow", RULE]);
    assert.equal(code, 0, stdout);
    for (const path of [LIBRARY, "/etc/lowport/lowport.json", ...service.files, LOG]) assert.ok(stdout.includes(path), stdout);
    same_disk(list_disk(box), before);
    assert.deepEqual(list_volatile(box), []);
  });

  test("install leaves a service that runs and answers, and says who must join which group", async () => {
    const { stdout } = await install(box);
    assert.match(stdout, /usermod -aG lowport www-data/);
    await box.do(service.is_running);
    const { pid, version } = await status(box);
    assert.deepEqual([pid, version], [helper_pid(box), "0.1.0"]);
  });

  test("no thread of the helper has root's ids, or any right but the one", () => is_hardened(box, service.bounding));

  test("no other user can change what root runs or reads, nor the pid file and the control socket", async () => {
    await is_roots_alone(box, ...service.files);
    const paths = ["/run/lowport", "/run/lowport/lowport.pid", "/run/lowport/lowport.sock", LOG];
    assert.equal(
      await box.do(["stat", "-c", "%U:%G %a", ...paths]),
      "root:root 755\nroot:root 644\nroot:lowport 660\nlowport:adm 2750\n",
    );
  });

  test("www-data serves on port 80, another user is denied, one outside of the group is out of reach", async (t) => {
    const app = await start_app(t, box);
    assert.equal(await get(box), "hello from uid 33");
    assert.deepEqual(
      (await leases(box)).map(({ uid, port, label, state }) => [uid, port, label, state]),
      [[33, 80, "shop", "active"]],
    );
    await app.stop();
    await box.do(["usermod", "-aG", "lowport", "alice"]);
    const denied = await box.run(["lowport", "check", "tcp", "80"], { user: "alice" });
    assert.equal(denied.code, 1, denied.stderr + denied.stdout);
    const outside = await box.run(["lowport", "status"], { user: "mallory" });
    assert.equal(outside.code, 77, outside.stderr);
    assert.match(outside.stderr, /group "lowport"/);
  });

  test("reload takes new rules, and a broken file keeps those in force", async () => {
    const check = async () => (await box.run(["lowport", "check", "tcp", "8"], { user: "www-data" })).code;
    const write = (input: string) => box.do(["tee", "/etc/lowport/rules.d/60-more.json"], { input });
    assert.equal(await check(), 1);
    const pid = helper_pid(box);
    await write('{"rules": [{"name": "eight", "users": ["www-data"], "ports": [8]}]}');
    await box.do(service.reload);
    await until("the rule is in force", async () => (await check()) === 0);
    await write("{");
    const { code } = await box.run(service.reload);
    await box.do(["kill", "-HUP", String(pid)]); // by itself, whatever the service's reload has made of it
    await until("the log says why", async () => (await service.read_log()).includes("is not JSON"));
    assert.equal(await check(), 0, `reload ended with ${code}`);
    assert.equal(helper_pid(box), pid);
    await box.do(["rm", "/etc/lowport/rules.d/60-more.json"]);
    await box.do(service.reload);
    await until("the rule is gone", async () => (await check()) === 1);
  });

  test("logrotate itself reaches the helper, and the chain goes on", async () => {
    const { auditSeq } = await status(box);
    await box.do(["logrotate", "--force", "/etc/logrotate.d/lowport"]);
    await until("the helper goes on in a new file", () => is_there(box, `${LOG}/audit.log`));
    assert.ok((await status(box)).auditSeq > auditSeq);
    await verify_audit(box, ROTATED);
  });

  test("stop and start: both the init and lowport status say which it is", async () => {
    const pid = helper_pid(box);
    await box.do(service.stop);
    assert.equal((await box.run(service.is_running)).code, service.stopped);
    assert.ok(!is_there(box, `/proc/${pid}`) && !is_there(box, "/run/lowport/lowport.pid"));
    const { code, stderr } = await lowport(box, "status");
    assert.equal(code, 69, stderr);
    await box.do(service.start);
    assert.equal((await status(box)).pid, helper_pid(box), "it serves when start returns");
    await box.do(service.is_running);
    await is_hardened(box, service.bounding);
  });
}

/** From an installed service to another version of it, over a boot, and to a machine without lowport. */
export function test_upgrade_and_removal(service: Service, before: ReadonlyMap<string, string>): void {
  const { box } = service;
  const current = () => readlinkSync(box.path(`${LIBRARY}/current`));

  test("a second install changes nothing, and does not touch the running helper", async () => {
    const [pid, disk] = [helper_pid(box), list_disk(box, LOG)];
    const { code, stdout } = await lowportd(box, ["install", "--allow", RULE]);
    assert.equal(code, 0);
    assert.match(stdout, /already installed and running/);
    assert.equal(helper_pid(box), pid);
    same_disk(list_disk(box, LOG), disk);
  });

  test("an upgrade under load: no connection is refused, the admin's configuration is kept, and the lease where it can be", async (t) => {
    await copy_checkout(box, "/srv/next");
    await box.do(["sh", "-c", "printf '\\n// another release' >>/srv/next/dist/helper/main.cjs"]);
    const rules = '{"rules": [{"name": "admin", "users": ["alice"], "ports": [25]}]}';
    await box.do(["tee", "/etc/lowport/rules.d/70-admin.json"], { input: rules });
    const app = await start_app(t, box);
    const lease = (await leases(box))[0]?.lease;
    assert.ok(lease);
    const load = await Load.start(box);
    const [pid, release] = [helper_pid(box), current()];
    const { code, stderr, stdout } = await lowportd(box, ["install"], {}, "/srv/next");
    assert.equal(code, 0, stderr + stdout);
    await another_helper(box, pid);
    await load.goes_on();
    assert.deepEqual(Object.keys(await load.stop()), ["hello from uid 33"]);
    if (service.keeps_leases) {
      await until("the app is active again", async () => (await leases(box))[0]?.state === "active");
      assert.equal((await leases(box))[0]?.lease, lease);
    }
    assert.notEqual(current(), release);
    assert.equal((await box.run(["lowport", "check", "tcp", "25"], { user: "alice" })).code, 0);
    await is_hardened(box, service.bounding);
    await is_roots_alone(box, ...service.files);
    await app.stop();
  });

  test("an upgrade to a program that does not start is undone, and says so; the service goes on as it was", async (t) => {
    await box.do(["sh", "-c", `printf '\\nif (process.argv.includes("run")) process.exit(3);' >>/srv/next/dist/helper/main.cjs`]);
    const app = await start_app(t, box);
    const disk = list_disk(box, "/srv", LOG);
    const { code, stderr } = await lowportd(box, ["install"], {}, "/srv/next");
    assert.equal(code, 1, stderr);
    assert.match(stderr, /undone/);
    same_disk(list_disk(box, "/srv", LOG), disk);
    assert.equal((await status(box)).pid, helper_pid(box));
    await box.do(service.is_running);
    assert.equal(await get(box), "hello from uid 33");
    if (service.keeps_leases) await until("the lease is there", async () => (await leases(box)).some(({ port }) => port === 80));
    await app.stop();
  });

  test("it starts at boot, by itself", async (t) => {
    await box.reboot();
    await until("it serves", async () => (await lowport(box, "status")).code === 0);
    await box.do(service.is_running);
    await is_hardened(box, service.bounding);
    const app = await start_app(t, box);
    assert.equal(await get(box), "hello from uid 33");
    await app.stop();
    await verify_audit(box, ROTATED);
  });

  test("uninstall leaves no trace but the audit log, and an install goes on from that", async () => {
    await box.do(["rm", "-rf", "/srv/next"]);
    for (const user of ["www-data", "alice"]) await box.do(["gpasswd", "--delete", user, "lowport"]);
    const pid = helper_pid(box);
    await box.do(["/usr/local/sbin/lowportd", "uninstall"]);
    assert.ok(!is_there(box, `/proc/${pid}`));
    assert.deepEqual(list_volatile(box), []);
    same_disk(list_disk(box, LOG), before);
    const owners = "root:adm 2750\nroot:adm 640\nroot:adm 640\n";
    assert.equal(await box.do(["stat", "-c", "%U:%G %a", LOG, ROTATED, `${LOG}/audit.log`]), owners);
    const verify = [NODE, `${CHECKOUT}/dist/client/cli.js`, "audit", "verify", ROTATED, `${LOG}/audit.log`];
    assert.match(await box.do(verify), /^ok: \d+ lines in \d+ files?, records 1 to /);

    await install(box);
    await verify_audit(box, ROTATED);
    await box.do(["/usr/local/sbin/lowportd", "uninstall", "--purge"]);
    await box.do(["gpasswd", "--delete", "www-data", "lowport"]).catch(() => undefined);
    same_disk(list_disk(box), before);
  });
}
