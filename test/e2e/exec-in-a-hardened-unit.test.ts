/**
 * Promise: `lowport exec` is the ExecStart= of a unit as hardened as the one in lowport(1), and the other commands run there too;
 * where a filter of the unit's is in the way the message names it.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { REPOSITORY } from "./box.js";
import { until } from "./helper-process.js";
import { boot, need_inits } from "./real-init.js";
import { get, install, leases } from "./service.js";

await need_inits(import.meta.url, "systemd");

const box = await boot({ after }, { init: "systemd" });
await install(box);

/** Runs a command as a transient service with these lines in its unit. */
const run = (command: readonly string[], ...lines: readonly string[]) =>
  box.run([
    ...["systemd-run", "--pipe", "--wait", "--quiet", "-p", "User=www-data"],
    ...lines.flatMap((line) => ["-p", line]),
    ...command,
  ]);

const BIND = `
import errno, socket
try: socket.socket().bind(("127.0.0.1", 80)); print("bound")
except OSError as error: print(errno.errorcode[error.errno])`;
const exec = (...options: string[]) => ["lowport", "exec", ...options, "--", "/usr/bin/python3", "-c", BIND];
const NO_CODE_AT_RUN_TIME = "MemoryDenyWriteExecute=yes";
const CALLS = "SystemCallFilter=@system-service seccomp pidfd_getfd pkey_alloc";
const REFUSED = "SystemCallErrorNumber=EPERM";

test("where memory may not be written and executed: exec, and what asks the helper", async () => {
  assert.deepEqual(await run(exec(), NO_CODE_AT_RUN_TIME), { code: 0, stdout: "bound\n", stderr: "" });
  for (const words of [["status"], ["list"], ["check", "tcp", "80"], ["help"]]) {
    const { code, stdout, stderr } = await run(["lowport", ...words], NO_CODE_AT_RUN_TIME);
    assert.deepEqual([code, stderr], [0, ""], stdout);
  }
});

test("with the system calls that lowport(1) names, whether others kill or are refused", async () => {
  for (const lines of [[CALLS], [CALLS, REFUSED], ["SystemCallFilter=@system-service @debug @pkey seccomp"]])
    assert.deepEqual(await run(exec(), NO_CODE_AT_RUN_TIME, ...lines), { code: 0, stdout: "bound\n", stderr: "" }, lines.join());
});

test("--listen: with the one that Node's start takes", async () => {
  const listens = ["lowport", "exec", "--listen", "tcp:80", "--", "sh", "-c", "echo $LISTEN_FDS"];
  const result = await run(listens, NO_CODE_AT_RUN_TIME, "SystemCallFilter=@system-service pkey_alloc");
  assert.deepEqual(result, { code: 0, stdout: "1\n", stderr: "" });
});

test("without them: which are missing, and where", async () => {
  const names = /a filter forbids that; a systemd unit needs SystemCallFilter=@system-service seccomp pidfd_getfd pkey_alloc/;
  const none = await run(exec(), "SystemCallFilter=@system-service", REFUSED);
  assert.deepEqual([none.code, none.stdout], [70, ""]);
  assert.match(none.stderr, /^lowport: exec: seccomp is forbidden to this process \(EPERM\): a filter/);
  assert.match(none.stderr, names);
  const one = await run(exec(), "SystemCallFilter=@system-service seccomp", REFUSED);
  assert.deepEqual([one.code, one.stdout], [0, "EACCES\n"]);
  assert.match(one.stderr, /^lowport: exec: no port will come from the helper: pidfd_getfd\(2\) fails \(EPERM\)/);
});

test("without Unix sockets: that AF_UNIX is missing", async () => {
  const lacks = /RestrictAddressFamilies= of its systemd unit lacks AF_UNIX\n$/;
  const line = "RestrictAddressFamilies=AF_INET AF_INET6";
  const program = await run(exec(), line);
  assert.deepEqual([program.code, program.stdout], [0, "EACCES\n"]);
  assert.match(program.stderr, lacks);
  const passed = await run(exec("--listen", "tcp:80"), line);
  assert.deepEqual([passed.code, passed.stdout], [69, ""]);
  assert.match(passed.stderr, lacks);
  const status = await run(["lowport", "status"], line);
  assert.deepEqual([status.code, status.stdout], [69, ""]);
  assert.match(status.stderr, /^lowport: out of reach: .* lacks AF_UNIX\n$/);
});

test("the unit in lowport(1), word for word: serves, is stopped, and leaves nothing", async () => {
  const manual = readFileSync(join(REPOSITORY, "client/man/lowport.1"), "utf8");
  const unit = /^\.Bd -literal -offset indent\n(\[Unit\]\n[\s\S]*?)\.Ed$/m.exec(manual)?.[1]?.replaceAll("\\-", "-") ?? "";
  assert.match(unit, /^ExecStart=\/usr\/local\/bin\/lowport exec .*http\.server 80$/m);
  assert.ok(unit.includes(NO_CODE_AT_RUN_TIME) && unit.includes(CALLS), unit);
  await box.do(["tee", "/etc/systemd/system/shop.service"], { input: unit });
  await box.do(["systemctl", "daemon-reload"]);
  assert.equal(await box.do(["systemd-analyze", "verify", "--man=no", "shop.service"]), "");
  await box.do(["systemctl", "start", "shop"]);
  await until("it serves", () => get(box).then(Boolean, () => false));
  assert.deepEqual(
    (await leases(box)).map(({ uid, port }) => [uid, port]),
    [[33, 80]],
  );
  await box.do(["systemctl", "stop", "shop"]);
  assert.equal((await box.run(["systemctl", "show", "--property", "Result", "--value", "shop"])).stdout, "success\n");
  const held = (await leases(box)).map(({ state }) => state);
  assert.deepEqual(held, ["held"], "by --hold");
});
