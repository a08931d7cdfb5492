/** The one-way door: what counts as a privilege left over, and (as root, in children) that what should be refused is. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { leftover_privileges, parse_status } from "../../helper/lockdown.js";
import { AS_NOBODY, DIST, needs_root, run_module, temp_folder } from "../fixtures.js";

const NONE = "0000000000000000";
const BIND = "0000000000000400";
const STATUS = `Name:\tnode
Uid:\t990\t990\t990\t990
Gid:\t980\t980\t980\t980
Groups:\t
CapInh:\t${NONE}
CapPrm:\t${BIND}
CapEff:\t${BIND}
CapBnd:\t${BIND}
CapAmb:\t${NONE}
NoNewPrivs:\t1
Seccomp:\t2
Odd:\ta: b\tc
`;
const left = (over: Record<string, string>, main = true, as_root = true) =>
  leftover_privileges(new Map([...parse_status(STATUS), ...Object.entries(over)]), 990, 980, main, as_root);

test("parse_status reads proc(5)'s fields", () => {
  const status = parse_status(STATUS);
  assert.deepEqual([status.get("Uid"), status.get("Groups"), status.get("Odd")], ["990 990 990 990", "", "a: b c"]);
  assert.equal(status.get("absent"), undefined);
});

for (const [over, main, as_root, ...expected] of [
  [{}, true, true],
  [{}, true, false],
  [{ CapPrm: NONE, CapEff: NONE }, false, true],
  [{ CapPrm: NONE, CapEff: NONE }, false, false],
  [{}, false, false],
  [{}, false, true, "CapPrm", "CapEff"],
  [{ CapPrm: NONE, CapEff: NONE }, true, true, "CapPrm", "CapEff"],
  [{ Uid: "990 990 0 990" }, true, true, "Uid"],
  [{ Gid: "980 980 980 0" }, true, true, "Gid"],
  [{ Groups: "0" }, true, true, "Groups"],
  [{ Groups: "27" }, true, false],
  [{ CapInh: BIND }, true, true, "CapInh"],
  [{ CapAmb: BIND }, true, true, "CapAmb"],
  [{ CapBnd: "000001ffffffffff" }, true, true, "CapBnd"],
  [{ CapBnd: "000001ffffffffff", CapPrm: NONE, CapEff: NONE }, false, true],
  [{ CapEff: "0000000000000401" }, true, false, "CapEff"],
  [{ NoNewPrivs: "0" }, true, true, "NoNewPrivs"],
  [{ Seccomp: "1" }, false, false, "Seccomp"],
] as const)
  test(`left over of ${JSON.stringify(over)}, main ${main}, as root ${as_root}`, () => {
    const found = left(over, main, as_root);
    assert.deepEqual(
      found.map((text) => text.split(" ")[0]),
      expected,
    );
  });

test("a field that is not there is left over too", () => {
  assert.equal(leftover_privileges(new Map(), 1, 1, true, true).length, 10);
});

// Tried on the main thread and, by the same code, in a worker that runs since before the lock-down.
const PROBE = `
#define _GNU_SOURCE
#include <errno.h>
#include <node_api.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static napi_value call(napi_env env, napi_callback_info info) {
    napi_value args[7], out; size_t count = 7; int64_t n[7] = {0};
    napi_get_cb_info(env, info, &count, args, NULL, NULL);
    for (size_t i = 0; i < count; i++) napi_get_value_int64(env, args[i], &n[i]);
    long result = syscall(n[0], n[1], n[2], n[3], n[4], n[5], n[6]);
    if (result == 0 && (n[0] == SYS_clone || n[0] == 57 || n[0] == 58)) _exit(0); /* a child: there must be none */
    napi_create_int64(env, result < 0 ? -errno : result, &out);
    return out;
}
NAPI_MODULE_INIT() {
    napi_value f; napi_create_function(env, "call", NAPI_AUTO_LENGTH, call, NULL, &f); return f;
}`;

/** System calls of x86-64 by what they try; each expects a negative errno. */
const REFUSED: Record<string, [expected: number, ...call: number[]]> = {
  execve: [1, 59, 0, 0, 0],
  execveat: [1, 322, -1, 0, 0, 0, 0],
  fork: [1, 57],
  vfork: [1, 58],
  "clone as fork": [1, 56, 17, 0, 0, 0, 0],
  "clone with CLONE_NEWUSER": [1, 56, 0x10000000 | 17, 0, 0, 0, 0],
  "clone with CLONE_THREAD and CLONE_NEWUSER": [1, 56, 0x10010f00, 0, 0, 0, 0],
  clone3: [38, 435, 0, 0],
  ptrace: [1, 101, 0, 0, 0, 0],
  process_vm_readv: [1, 310, 1, 0, 0, 0, 0, 0],
  mount: [1, 165, 0, 0, 0, 0, 0],
  umount2: [1, 166, 0, 0],
  chroot: [1, 161, 0],
  pivot_root: [1, 155, 0, 0],
  unshare: [1, 272, 0x10000000],
  setns: [1, 308, 0, 0],
  keyctl: [1, 250, 0, 0, 0, 0, 0],
  add_key: [1, 248, 0, 0, 0, 0, 0],
  request_key: [1, 249, 0, 0, 0, 0],
  bpf: [1, 321, 0, 0, 0],
  perf_event_open: [1, 298, 0, 0, 0, 0, 0],
  userfaultfd: [1, 323, 0],
  io_uring_setup: [1, 425, 1, 0],
  io_uring_enter: [1, 426, 0, 0, 0, 0, 0, 0],
  fsopen: [1, 430, 0, 0],
  open_tree: [1, 428, 0, 0, 0],
  pidfd_getfd: [1, 438, 0, 0, 0],
  mount_setattr: [1, 442, 0, 0, 0, 0, 0],
  init_module: [1, 175, 0, 0, 0],
  finit_module: [1, 313, 0, 0, 0],
  kexec_load: [1, 246, 0, 0, 0, 0],
  open_by_handle_at: [1, 304, 0, 0, 0],
  reboot: [1, 169, 0, 0, 0],
  personality: [1, 135, 0],
  "socket AF_NETLINK": [1, 41, 16, 3, 0],
  "socket AF_PACKET": [1, 41, 17, 3, 0],
  "socket AF_VSOCK": [1, 41, 40, 1, 0],
  "socket AF_ALG": [1, 41, 38, 5, 0],
  setuid: [1, 105, 0],
  setgid: [1, 106, 0],
  setgroups: [1, 116, 0, 0],
  setresuid: [1, 117, 0, 0, 0],
  "raw socket": [1, 41, 2, 3, 1],
};

const amd64 = process.arch === "x64" ? needs_root : `NOT TESTED on ${process.arch}: the probe has the numbers of x86-64`;

test("after the lock-down, low ports can be bound on the main thread and nothing else that root can, anywhere", {
  skip: amd64,
}, () => {
  const folder = temp_folder();
  const probe = join(folder, "probe.node");
  const { status, stdout, stderr } = run_module(
    `import { execFileSync } from "node:child_process";
     import { once } from "node:events";
     import { createRequire } from "node:module";
     import { closeSync, chmodSync, readFileSync, readdirSync } from "node:fs";
     import { Worker } from "node:worker_threads";
     import { native } from "${DIST}shared/native.js";
     import { lock_down } from "${DIST}helper/lockdown.js";
     import { leave_io_uring } from "${DIST}helper/io-uring.js"; leave_io_uring();
     chmodSync(${JSON.stringify(folder)}, 0o755);
     execFileSync("cc", ["-shared", "-fPIC", "-DNAPI_VERSION=8", "-I", ${JSON.stringify(join(DIST, "../node_modules/node-api-headers/include"))},
       "-x", "c", "-", "-o", ${JSON.stringify(probe)}], { input: ${JSON.stringify(PROBE)} });
     const attempt = (name, createRequire) => {
       const call = createRequire(${JSON.stringify(`${folder}/x.js`)})(${JSON.stringify(probe)});
       const wrong = [];
       for (const [what, [expected, ...args]] of Object.entries(${JSON.stringify(REFUSED)})) {
         const result = call(...args);
         if (result !== -expected) wrong.push(name + ": " + what + " gives " + result);
       }
       return wrong;
     };
     const worker = new Worker(\`
       import { parentPort } from "node:worker_threads";
       import { createRequire } from "node:module";
       const load = createRequire("/");
       load(${JSON.stringify(probe)});
       parentPort.postMessage("ready");
       parentPort.once("message", () => {
         const native = load(${JSON.stringify(join(DIST, "shared/native/lowport.node"))});
         const wrong = (\${attempt})("worker", createRequire);
         const bound = native.bindSocket(true, "127.0.0.1", 881, false, false, 1);
         if (bound !== -13) wrong.push("worker: bind gives " + bound);
         parentPort.postMessage(wrong);
       });\`, { eval: true });
     await once(worker, "message");
     lock_down(65533, 65532);
     const fd = native().bindSocket(true, "127.0.0.1", 881, false, false, 1);
     const wrong = attempt("main", createRequire);
     if (fd < 0) wrong.push("main: bind gives " + fd);
     else closeSync(fd);
     worker.postMessage("go");
     wrong.push(...(await once(worker, "message"))[0]);
     for (const [name, family] of [["AF_INET", "127.0.0.1"], ["AF_INET6", "::1"]]) {
       const other = native().bindSocket(false, family, 0, false, false, 0);
       if (other < 0) wrong.push(name + " is refused: " + other);
     }
     try { process.setuid(0); wrong.push("setuid(0)"); } catch (error) { if (error.code !== "EPERM") wrong.push(error.code); }
     try { execFileSync("/bin/true"); wrong.push("exec"); } catch (error) { if (error.code !== "EPERM" && error.code !== "ENOSYS") wrong.push("spawn " + error.code); }
     const threads = readdirSync("/proc/self/task").length;
     const later = new Worker("0", { eval: true }); // new threads still start
     await once(later, "exit");
     await worker.terminate();
     console.log(JSON.stringify({ wrong, threads: threads > 4, uid: process.getuid(), gid: process.getgid(), groups: process.getgroups() }));`,
  );
  assert.equal(status, 0, stderr);
  const { wrong, ...rest } = JSON.parse(stdout) as { wrong: string[] };
  assert.deepEqual(wrong, []);
  assert.deepEqual(rest, { threads: true, uid: 65533, gid: 65532, groups: [65532] });
});

for (const exit of ["process.exit(0)", "keep_alive(false)"])
  test(`the event loop goes on after the lock-down, and ends cleanly by ${exit}`, { skip: needs_root }, () => {
    const { status, signal, stdout, stderr } = run_module(`
      import { fdatasync } from "node:fs";
      import { lock_down } from "${DIST}helper/lockdown.js";
      import { native } from "${DIST}shared/native.js";
      import { keep_alive, READABLE, unwatch, watch } from "${DIST}shared/poll.js";
      import { leave_io_uring } from "${DIST}helper/io-uring.js"; leave_io_uring();
      const path = ${JSON.stringify(join(temp_folder(), "s"))};
      const listener = native().openUnix(path, 1);
      const client = native().openUnix(path, 0);
      const server = native().acceptUnix(listener);
      const say = () => native().send(client, Buffer.from("x"), new Int32Array(0), 0);
      const told = () => new Promise((resolve) => watch(server, READABLE, () => { unwatch(server); native().receive(server, Buffer.alloc(9)); resolve(); }));
      const before = told(); say(); await before;
      lock_down(65533, 65532);
      const after = told(); say(); await after;
      await new Promise((resolve) => fdatasync(1, resolve)); // the thread pool
      await new Promise((resolve) => setTimeout(resolve, 1));
      await new Promise((resolve) => { process.once("SIGUSR2", resolve); process.kill(process.pid, "SIGUSR2"); });
      console.log("all told");
      ${exit};`);
    assert.deepEqual([status, signal, stdout], [0, null, "all told"], stderr);
  });

test("it cannot be locked down to root, nor for another's ids by one who is nobody", { skip: needs_root }, () => {
  const lock = (uid: number, gid: number, before = "") =>
    run_module(`import { lock_down } from "${DIST}helper/lockdown.js"; ${before}
      try { lock_down(${uid}, ${gid}); console.log("passed"); } catch (error) { console.log(error.message); }`).stdout;
  for (const [uid, gid] of [
    [0, 1],
    [1, 0],
    [-1, 1],
    [1, -1],
  ] as const)
    assert.match(lock(uid, gid), /: Invalid argument$/);
  const nobody = "process.setgroups([]); process.setgid(65534); process.setuid(65534);";
  assert.match(lock(65534, 65534, nobody), /CapPrm is "0{16}" and not "0{13}400"/);
});

test("ids beyond 2^31 are refused or reached, and never another", { skip: needs_root }, () => {
  const { stdout } = run_module(`import { lock_down } from "${DIST}helper/lockdown.js";
    try { lock_down(3_000_000_000, 3_000_000_000); console.log(process.getuid()); } catch (error) { console.log(error.name, process.getuid()); }`);
  assert.ok(["3000000000", "TypeError 0"].includes(stdout), stdout);
});

test("without rights it fails, and says at which step", () => {
  const { stdout } = run_module(
    `import { lock_down } from "${DIST}helper/lockdown.js";
    try { lock_down(65534, 65534); } catch (error) { console.log(error.message); }`,
    AS_NOBODY,
  );
  assert.match(stdout, /CapPrm is "0{16}" and not "0{13}400"/);
});
