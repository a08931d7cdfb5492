/**
 * The ladder: only a bind that the kernel would refuse goes to the helper. All else is the kernel's, with or without a helper,
 * and so is what a thread does that is somebody else by now or is in another network.
 */
import assert from "node:assert/strict";
import { chmodSync, copyFileSync, writeFileSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { enter_box, LOWPORT_GID, USERS, type User } from "./box.js";
import { exec, no_supervisors, type RunOptions, run } from "./exec-program.js";
import { start_helper } from "./helper-process.js";

await enter_box(import.meta.url);

const { alice, root } = USERS;
const PRELUDE = `
import ctypes, errno, os, socket, struct
libc = ctypes.CDLL(None, use_errno=True)
def raw(s, data, length=None):
    r = libc.bind(s.fileno(), data, len(data) if length is None else length)
    return "ok" if r == 0 else errno.errorcode[ctypes.get_errno()]
def bind(address, kind=socket.SOCK_STREAM, family=socket.AF_INET, proto=0, before=lambda s: None):
    try: s = socket.socket(family, kind, proto); before(s); s.bind(address); return s.getsockname()[:2] if family != socket.AF_UNIX else "ok"
    except OSError as e: return errno.errorcode[e.errno]
sin = lambda port, family=2: struct.pack("=H", family) + struct.pack("!H", port) + bytes([127, 0, 0, 1]) + bytes(8)
`;
const python = (code: string) => ["/usr/bin/python3", "-c", `${PRELUDE}\n${code}`];

/** Without and with: the same is printed. @returns what was recorded of binds */
async function same(t: TestContext, code: string, user: User = alice, options: RunOptions = {}) {
  const helper = await start_helper(t);
  const without = await run(t, user, python(code), options);
  const with_it = await run(t, user, exec("--", ...python(code)), options);
  assert.deepEqual({ ...with_it, stderr: "" }, without);
  await no_supervisors();
  const binds = helper.audit().filter((line) => line.method === "bind");
  await helper.stop();
  return { binds, ...with_it };
}

test("what the kernel allows, refuses for another reason, or has no port for is the kernel's", async (t) => {
  const { binds, stdout } = await same(
    t,
    `
print(bind(("127.0.0.1", 8080)), bind(("127.0.0.1", 5353), socket.SOCK_DGRAM), bind(("", 0))[0], bind(("::1", 8080), family=socket.AF_INET6))
print(bind("\\0abstract", family=socket.AF_UNIX), bind((0, 0), socket.SOCK_RAW, socket.AF_NETLINK) and "ok")
s = socket.socket()
print(raw(s, sin(80), 7), raw(s, sin(80, 99)), raw(s, sin(80, 10)), raw(s, b"", 0), raw(s, b"x" * 500))
print(libc.bind(s.fileno(), None, 16), libc.bind(s.fileno(), ctypes.c_void_p(1), 16), libc.bind(s.fileno(), sin(80), -1))
print(libc.bind(9999, sin(80), 16), libc.bind(os.open("/dev/null", 0), sin(80), 16))
six = socket.socket(socket.AF_INET6)
print(raw(six, sin(80)), raw(six, b"\\0\\0\\0\\x50" + bytes(24)), raw(s, sin(80, 0)))
s.bind(("127.0.0.1", 8081))
print(raw(s, sin(80)), raw(s, sin(8082)))`,
  );
  assert.match(stdout, /\('127\.0\.0\.1', 8080\) \('127\.0\.0\.1', 5353\)/);
  assert.deepEqual(binds, []);
});

test("a privileged port of another protocol (UDP-Lite, ping) is not asked for", async (t) => {
  const { binds } = await same(
    t,
    `print(bind(("127.0.0.1", 80), socket.SOCK_DGRAM, proto=136), bind(("127.0.0.1", 80), socket.SOCK_DGRAM, proto=1))`,
  );
  assert.deepEqual(binds, []);
});

test("all addresses without a family are IPv4's, as the kernel takes them", async (t) => {
  await start_helper(t);
  const anywhere = (port: number) =>
    `s = socket.socket(); print(raw(s, struct.pack("!HH", 0, ${port}) + bytes(12)), s.getsockname())`;
  const { stdout, stderr } = await run(t, alice, exec("--", ...python(`${anywhere(80)}\n${anywhere(8080)}`)));
  assert.equal(stdout, "ok ('0.0.0.0', 80)\nok ('0.0.0.0', 8080)\n", stderr);
});

test("MPTCP's port is asked for as TCP's", async (t) => {
  await start_helper(t);
  const { stdout } = await run(t, alice, exec("--", ...python(`print(bind(("127.0.0.1", 80), proto=262))`)));
  assert.equal(stdout, "('127.0.0.1', 80)\n");
});

test("where the host has made low ports free, or more ports privileged, that counts", async (t) => {
  const START = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
  t.after(() => writeFileSync(START, "1024"));
  writeFileSync(START, "80");
  const free = await same(t, `print(bind(("127.0.0.1", 80)))`);
  assert.deepEqual([free.stdout, free.binds], ["('127.0.0.1', 80)\n", []]);
  writeFileSync(START, "9000");
  const helper = await start_helper(t, { rules: [{ name: "high", users: ["alice"], ports: [8080] }] });
  const { stdout } = await run(t, alice, exec("--", ...python(`print(bind(("127.0.0.1", 8080)))`)));
  assert.equal(stdout, "('127.0.0.1', 8080)\n");
  assert.equal(helper.audit().filter((line) => line.method === "bind").length, 1);
});

test("a program with the capability binds by itself", async (t) => {
  const wrapper = [
    "setpriv",
    "--reuid=2001",
    "--regid=2001",
    "--groups=990",
    "--inh-caps=+net_bind_service",
    "--ambient-caps=+net_bind_service",
  ];
  const { binds, stdout } = await same(t, `print(bind(("127.0.0.1", 80)))`, root, { wrapper });
  assert.deepEqual([stdout, binds], ["('127.0.0.1', 80)\n", []]);
});

test("in a user namespace of its own a program's capabilities do not count, and it is served", async (t) => {
  const helper = await start_helper(t);
  const { stdout } = await run(
    t,
    alice,
    exec("--", "unshare", "--user", "--map-current-user", "--keep-caps", ...python(`print(bind(("127.0.0.1", 80)))`)),
  );
  assert.equal(stdout, "('127.0.0.1', 80)\n");
  assert.equal(helper.audit().filter((line) => line.method === "bind").length, 1);
});

test("in another network the helper, which is not in it, is not asked", async (t) => {
  const helper = await start_helper(t);
  const inside = python(`print(bind(("0.0.0.0", 80)))`);
  const { stdout } = await run(t, alice, exec("--", "unshare", "--user", "--map-root-user", "--net", ...inside));
  assert.equal(stdout, "('0.0.0.0', 80)\n", "it is root there");
  const dropped = ["unshare", "--user", "--map-current-user", "--net", ...inside];
  assert.equal((await run(t, alice, exec("--", ...dropped))).stdout, "EACCES\n");
  assert.deepEqual(
    helper.audit().filter((line) => line.method === "bind"),
    [],
  );
});

test("a program that was started in another network than the helper's gets none of the helper's", async (t) => {
  const helper = await start_helper(t);
  const as_alice = ["setpriv", "--reuid=2001", "--regid=2001", `--groups=${LOWPORT_GID}`];
  const inside = exec("--", ...python(`print(bind(("0.0.0.0", 80)))`));
  const { stdout, stderr } = await run(t, root, ["unshare", "--net", ...as_alice, ...inside]);
  assert.equal(stdout, "EACCES\n");
  assert.match(stderr, /the helper is in another network than this program/);
  const { lease } = await helper.recorded("the grant", (line) => line.method === "bind");
  await helper.recorded("its end", (line) => line.event === "lease-end" && line.lease === lease);
});

test("nor does one with --listen, which is not started", async (t) => {
  const helper = await start_helper(t);
  const as_alice = ["setpriv", "--reuid=2001", "--regid=2001", `--groups=${LOWPORT_GID}`];
  const inside = exec("--hold", "30", "--listen", "tcp:80", "--", "/bin/echo", "started");
  const { code, stdout, stderr } = await run(t, root, ["unshare", "--net", ...as_alice, ...inside]);
  assert.deepEqual([code, stdout], [1, ""]);
  assert.match(stderr, /^lowport: exec: EACCES: the helper is in another network than this program/);
  const { lease } = await helper.recorded("the grant", (line) => line.method === "bind");
  await helper.recorded("its end", (line) => line.event === "lease-end" && line.lease === lease);
});

test("who has become somebody else is not asked for: root's supervisor gives nothing to alice", async (t) => {
  const rules = [{ name: "root", users: ["root"], ports: [80] }];
  const helper = await start_helper(t, { rules });
  const as_alice = ["setpriv", "--reuid=2001", "--regid=2001", "--clear-groups"];
  const twice = python(`print(bind(("127.0.0.1", 80)), bind(("127.0.0.1", 81)), bind(("127.0.0.1", 8080)))`);
  const { stdout, stderr } = await run(t, root, exec("--", ...as_alice, ...twice));
  assert.equal(stdout, "EACCES EACCES ('127.0.0.1', 8080)\n");
  assert.match(stderr, /^lowport exec: process \d+ \(python3\) may not .*: it is of another user or group .*\n$/, "once");
  // Nor to a thread alone: credentials are a thread's.
  const code = `
libc.syscall(117, 2001, 2001, 2001)
print(bind(("127.0.0.1", 80)))`;
  assert.equal((await run(t, root, exec("--", ...python(code)))).stdout, "EACCES\n");
  assert.deepEqual(
    helper.audit().filter((line) => line.method === "bind"),
    [],
  );
});

/** Nothing is asked, and one line is said. */
async function refused_for(t: TestContext, code: string, because: RegExp): Promise<string> {
  const helper = await start_helper(t);
  const { stdout, stderr } = await run(t, alice, exec("--", ...python(code)));
  if (stdout.includes("EPROTONOSUPPORT")) return stdout;
  assert.match(stderr, /^lowport exec: process \d+ \(python3\) may not bind this port, and no helper can be asked: .*\n$/);
  assert.match(stderr, because);
  assert.deepEqual(
    helper.audit().filter((line) => line.method === "bind"),
    [],
  );
  return stdout;
}

test("an address with a scope is the kernel's, and stderr says why, once", async (t) => {
  const code = `
scope = lambda port: bind(("fe80::1", port, 0, 1), family=socket.AF_INET6)
print(scope(80), scope(81), scope(8080))`;
  assert.equal(await refused_for(t, code, /it is of an address with a scope/), "EACCES EACCES EADDRNOTAVAIL\n");
});

test("a protocol that the helper has not is the kernel's, and stderr says why, once", async (t) => {
  const code = `
lite = lambda port: bind(("127.0.0.1", port), socket.SOCK_DGRAM, proto=136)
print(lite(80), lite(81), lite(8080))`;
  const stdout = await refused_for(t, code, /it is of UDP-Lite, and the helper has TCP and UDP/);
  if (stdout.includes("EPROTONOSUPPORT")) return t.skip("this kernel has no UDP-Lite");
  assert.equal(stdout, "EACCES EACCES ('127.0.0.1', 8080)\n");
});

test("a program that its user may not read is not dumpable: it runs, and is told before", async (t) => {
  await start_helper(t);
  const program = "/run/unreadable";
  copyFileSync("/usr/bin/true", program);
  chmodSync(program, 0o711);
  const { code, stderr } = await run(t, alice, exec("--", program));
  assert.deepEqual([code, /^lowport: exec: .*unreadable: it may not be read, .*\n$/.test(stderr)], [0, true], stderr);
  assert.equal((await run(t, alice, exec("--listen", "tcp:80", "--", program))).stderr, "");
});

test("a process that may not be looked into keeps what the kernel gives, and its parent's stderr says so once", async (t) => {
  const helper = await start_helper(t);
  const code = `
if os.fork(): os.wait(); os._exit(0)
libc.prctl(4, 0)  # PR_SET_DUMPABLE
print(bind(("127.0.0.1", 80)), bind(("127.0.0.1", 8080)), bind("\\0abstract", family=socket.AF_UNIX), flush=True)`;
  const { stdout, stderr } = await run(t, alice, exec("--", ...python(code)));
  assert.equal(stdout, "EACCES ('127.0.0.1', 8080) ok\n");
  assert.deepEqual(
    helper.audit().filter((line) => line.method === "bind"),
    [],
  );
  assert.match(stderr, /^lowport exec: process \d+ \(python3\) may not be looked into, .*\n$/);
});

test("a program that makes itself not dumpable: its starter's stderr says so, if it is the same", async (t) => {
  await start_helper(t);
  const command = exec("--", ...python(`libc.prctl(4, 0); print(bind(("127.0.0.1", 80)))`));
  const under_a_shell = async (how: string) =>
    (await run(t, alice, ["sh", "-c", `"$@" ${how}; exit $?`, "sh", ...command])).stderr;
  assert.match(await under_a_shell(""), /^lowport exec: process \d+ \(python3\) may not be looked into, .*\n$/);
  assert.equal(await under_a_shell("2>/dev/null"), "");
});
