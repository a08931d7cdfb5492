/** `lowport exec --listen`: sockets by the LISTEN_FDS protocol (sd_listen_fds(3)), for programs that speak it. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { enter_box, REPOSITORY, USERS } from "./box.js";
import { all_leases, get, no_leases } from "./client-app.js";
import { ask_udp, connects, exec, no_supervisors, Program, run, supervisors } from "./exec-program.js";
import { start_helper, until } from "./helper-process.js";

await enter_box(import.meta.url);

const { alice, mallory } = USERS;
const rules = [{ name: "web", users: ["alice"], protocols: ["tcp", "udp"], ports: [53, 80, 443, "800-899"] }];

/** sd_listen_fds(3), as its page says, and what it finds. */
const CONSUMER = `
import fcntl, os, signal, socket, sys
assert int(os.environ["LISTEN_PID"]) == os.getpid()
count = int(os.environ["LISTEN_FDS"]); names = os.environ["LISTEN_FDNAMES"].split(":")
sockets = []
for i in range(count):
    s = socket.socket(fileno=3 + i); sockets.append(s)
    blocking = not fcntl.fcntl(s, fcntl.F_GETFL) & os.O_NONBLOCK
    listening = s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) if s.type == socket.SOCK_STREAM else "-"
    print(names[i], s.family.name, s.type.name, *s.getsockname()[:2], blocking, listening, fcntl.fcntl(s, fcntl.F_GETFD))
try: os.fstat(3 + count); print("one more")
except OSError: pass
print("ready", flush=True)
`;
const python = (code: string) => ["/usr/bin/python3", "-c", `${CONSUMER}\n${code}`];

test("a Python consumer gets its sockets in order, named, blocking, with its own process id, and serves", async (t) => {
  const helper = await start_helper(t, { rules });
  const listen = ["--listen", "tcp:80", "--listen", "udp:53@127.0.0.1", "--listen=tcp:443@::1"];
  const program = new Program(
    t,
    alice,
    exec(
      ...listen,
      "--",
      ...python(`
c, _ = sockets[0].accept(); c.recv(1000); c.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nby LISTEN_FDS"); c.close()
data, sender = sockets[1].recvfrom(100); sockets[1].sendto(data.upper(), sender)
sys.stdin.readline()`),
    ),
  );
  assert.equal(await program.serves(() => get(80)), "by LISTEN_FDS");
  assert.equal((await program.serves(() => ask_udp(53, Buffer.from("hello")))).toString(), "HELLO");
  assert.equal(
    program.stdout,
    "tcp-80 AF_INET6 SOCK_STREAM :: 80 True 1 0\nudp-53 AF_INET SOCK_DGRAM 127.0.0.1 53 True - 0\ntcp-443 AF_INET6 SOCK_STREAM ::1 443 True 1 0\nready\n",
  );
  assert.deepEqual(
    (await all_leases()).map((lease) => lease.state),
    ["active", "active", "active"],
  );
  assert.equal(helper.audit().find((line) => line.method === "bind")?.peer?.uid, alice.uid);
  await program.kill();
  await no_leases();
  await no_supervisors();
});

test("without --listen's filter: a bind of its own is the kernel's, and setuid programs stay what they are", async (t) => {
  await start_helper(t, { rules });
  const code = `
try: socket.socket().bind(("127.0.0.1", 801))
except PermissionError: print("EACCES")
print([line.split()[1] for line in open("/proc/self/status") if line.startswith(("Seccomp:", "NoNewPrivs:"))])`;
  const { stdout } = await run(t, alice, exec("--listen", "tcp:80", "--", ...python(code)));
  assert.match(stdout, /ready\nEACCES\n\['0', '0'\]\n$/);
});

test("what was inherited at these numbers gives way, what was above stays, and so does the rest of the environment", async (t) => {
  await start_helper(t, { rules });
  const look = `
print(os.environ["KEPT"], os.environ.get("LISTEN_PID") == str(os.getpid()), os.read(5, 4), flush=True)`;
  const wrapper = ["sh", "-c", 'exec "$@" 3</etc/passwd 5</etc/hostname', "sh"];
  const { stdout, stderr, code } = await run(t, alice, exec("--listen", "tcp:80", "--", ...python(look)), {
    wrapper,
    env: { KEPT: "yes", LISTEN_PID: "1", LISTEN_FDS: "9" },
  });
  assert.equal(code, 0, stderr);
  assert.ok(stdout.includes(`yes True b'${readFileSync("/etc/hostname", "utf8").slice(0, 4).replace("\n", "\\n")}'`), stdout);
});

test("the library's own `listen` takes them", async (t) => {
  await start_helper(t, { rules });
  const code = `
    const { listen } = await import(${JSON.stringify(join(REPOSITORY, "dist/client/index.js"))});
    const http = await import("node:http");
    const { via } = await listen(http.createServer((q, r) => r.end("via " + via)), { port: 443 });`;
  const program = new Program(t, alice, exec("--listen", "tcp:443", "--", process.execPath, "--input-type=module", "-e", code));
  assert.equal(await program.serves(() => get(443)), "via inherited");
});

test("--hold: over a restart it is the same socket, and who waits is served", async (t) => {
  await start_helper(t, { rules });
  const serve = (name: string) => python(`c, _ = sockets[0].accept(); c.sendall(b"${name}"); c.close(); print("served")`);
  const listen = ["--listen", "tcp:80", "--hold", "30", "--"];
  const first = new Program(t, alice, exec(...listen, ...python("sys.stdin.readline()")));
  await first.printed(/ready/);
  const early = connects(80);
  assert.equal(await early, true);
  await first.kill("SIGKILL");
  await until("the lease is held", async () => (await all_leases())[0]?.state === "held");
  const second = await run(t, alice, exec(...listen, ...serve("second")));
  assert.match(second.stdout, /ready\nserved\n$/);
  await no_supervisors();
});

test("the lease lives as long as a process has the socket, and then ends", async (t) => {
  await start_helper(t, { rules });
  const code = `
if os.fork(): os._exit(0)
os.setsid(); print("child", os.getpid(), flush=True); signal.pause()`;
  const program = new Program(t, alice, exec("--listen", "tcp:80", "--", ...python(code)));
  const [, pid] = await program.printed(/child (\d+)/);
  await until("the first has ended", () => program.process.exitCode === 0);
  assert.equal((await all_leases())[0]?.state, "active");
  assert.equal(supervisors().length, 1);
  process.kill(Number(pid), "SIGKILL");
  await no_supervisors();
  await no_leases();
});

test("what is granted stays granted while the next is waited for, before the program has begun", async (t) => {
  // One token is left for the second socket only after two seconds.
  const helper = await start_helper(t, { rules, config: { limits: { requestsPerSecond: 1, requestBurst: 2 } } });
  const { stdout, stderr } = await run(t, alice, exec("--listen", "tcp:80", "--listen", "tcp:443", "--", ...python("")));
  assert.match(stdout, /^tcp-80 .*\ntcp-443 .*\nready\n$/, stderr);
  await no_supervisors();
  const binds = helper.audit().filter((line) => line.method === "bind");
  assert.ok(binds.length > 2, "it had to wait");
  assert.deepEqual(
    helper.audit().filter((line) => line.method === "release"),
    [],
  );
});

test("refused, taken, out of reach: nothing is started, the exit code says which, nothing is kept", async (t) => {
  await start_helper(t, { rules });
  const program = ["--", "sh", "-c", "echo started"];
  for (const [user, options, code, message] of [
    [alice, ["--listen", "tcp:80", "--listen", "tcp:25"], 1, /EACCES: .*lacks 25/],
    [alice, ["--listen", "tcp:80@192.0.2.1"], 1, /EADDRNOTAVAIL/],
    [alice, ["--listen", "tcp:80", "--listen", "tcp:80@0.0.0.0"], 1, /EADDRINUSE/],
    [alice, ["--listen", "tcp:80", "--listen", "tcp:80"], 64, /there twice/],
    [mallory, ["--listen", "tcp:80"], 77, /must be in group/],
    [alice, ["--socket", "/run/none", "--listen", "tcp:80"], 69, /there is no lowport helper/],
  ] as const) {
    const result = await run(t, user, exec(...options, ...program));
    assert.deepEqual([result.code, result.stdout], [code, ""], result.stderr);
    assert.match(result.stderr, message);
  }
  await no_supervisors();
  await no_leases();
});

test("beside sockets that systemd has passed it is refused, and nothing is asked for", async (t) => {
  const helper = await start_helper(t, { rules });
  const as_systemd = ["sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=1; export LISTEN_PID LISTEN_FDS; exec "$@"', "sh"];
  const { code, stdout, stderr } = await run(t, alice, [
    ...as_systemd,
    ...exec("--listen", "tcp:80", "--", "/bin/echo", "started"),
  ]);
  assert.deepEqual([code, stdout], [64, ""]);
  assert.match(stderr, /^lowport: exec: systemd has passed sockets to this process already/);
  assert.ok(helper.audit().every(({ method }) => method !== "bind"));
});
