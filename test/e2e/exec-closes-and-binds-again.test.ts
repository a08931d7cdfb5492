/**
 * How long a port stays the program's under `lowport exec`: as long as any process of it has the socket, over its restart
 * with --hold, and not longer.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { all_leases, freeze, no_leases } from "./client-app.js";
import { connects, exec, no_supervisors, Program, run, supervisors } from "./exec-program.js";
import { start_helper, until } from "./helper-process.js";

await enter_box(import.meta.url);

const { alice, carol } = USERS;
const python = (code: string, ...options: string[]) =>
  exec(...options, "--", "/usr/bin/python3", "-c", `import os, signal, socket, sys, time\n${code}`);
const BIND = `
def bind(port=80, host="127.0.0.1", kind=socket.SOCK_STREAM, options=()):
    s = socket.socket(type=kind)
    for o in options: s.setsockopt(socket.SOL_SOCKET, o, 1)
    try: s.bind((host, port))
    except OSError as e: return e.errno
    if kind == socket.SOCK_STREAM: s.listen()
    return s
`;

test("a program that closes its socket can bind again, the same or a wider address, 50 times", async (t) => {
  const helper = await start_helper(t);
  const code = `${BIND}
for i in range(50):
    s = bind(host=["127.0.0.1", "0.0.0.0", "127.0.0.2"][i % 3]); s.close()
s = bind(kind=socket.SOCK_DGRAM); s.close(); s = bind(kind=socket.SOCK_DGRAM)
print(s.getsockname())`;
  const { stdout, stderr } = await run(t, alice, python(code));
  assert.equal(stdout, "('127.0.0.1', 80)\n", stderr);
  await no_leases();
  assert.equal(helper.audit().filter((line) => line.method === "bind" && line.decision === "allow").length, 52);
});

test("what is still open cannot be bound twice, by a child neither", async (t) => {
  await start_helper(t);
  const code = `${BIND}
s = bind(); print(bind(), flush=True)
if os.fork() == 0: s.close(); print(bind(), flush=True); os._exit(0)
os.wait()
copy = os.dup(s.fileno()); s.close(); print(bind())
os.close(copy); print(bind().getsockname())`;
  const { stdout } = await run(t, alice, python(code));
  assert.equal(stdout, "98\n98\n98\n('127.0.0.1', 80)\n");
});

test("SO_REUSEPORT: two sockets where the rule allows it, else one and the same", async (t) => {
  const code = `${BIND}
a, b = (bind(options=[socket.SO_REUSEPORT]) for _ in range(2))
print(os.fstat(a.fileno()).st_ino == os.fstat(b.fileno()).st_ino, bind())`;
  const rule = { name: "web", users: ["alice"], ports: [80] };
  const strict = await start_helper(t, { rules: [rule] });
  assert.equal((await run(t, alice, python(code))).stdout, "True 98\n");
  await strict.stop();
  await start_helper(t, { rules: [{ ...rule, reusePort: true }] });
  assert.equal((await run(t, alice, python(code))).stdout, "False 98\n");
});

test("closed by all of its processes, the port is given back while the program lives on", async (t) => {
  await start_helper(t);
  const program = new Program(
    t,
    alice,
    python(`${BIND}
s = bind(); print("bound", flush=True); sys.stdin.readline(); s.close(); print("closed", flush=True); sys.stdin.readline()`),
  );
  await program.printed(/bound/);
  assert.equal(await connects(80), true);
  program.process.stdin?.write("\n");
  await program.printed(/closed/);
  await no_leases();
  assert.equal(await connects(80), false);
  assert.equal(program.process.exitCode, null);
  // And somebody else may have it now.
  assert.equal((await run(t, carol, python(`${BIND}\nprint(bind().getsockname())`))).stdout, "('127.0.0.1', 80)\n");
});

test("a listener that was closed refuses connections, far within a second, as often as it is closed", async (t) => {
  await start_helper(t);
  const code = `${BIND}
def answers():
    c = socket.socket()
    try: c.connect(("127.0.0.1", 80)); return True
    except (ConnectionRefusedError, ConnectionResetError): return False
    finally: c.close()
for i in range(3):
    s = bind(); assert answers()
    if i == 2 and os.fork(): s.close(); os.wait(); os._exit(0)  # it is the child's by then, and has been looked for
    if i == 2: time.sleep(1); assert answers()
    s.close(); start = time.monotonic()
    while answers(): time.sleep(0.01)
    print(time.monotonic() - start < 1, flush=True)`;
  const { stdout, stderr } = await run(t, alice, python(code));
  assert.equal(stdout, "True\nTrue\nTrue\n", stderr);
});

for (const hold of ["0", "30"])
  test(`a quota is free for what is bound next as soon as what was bound is closed, with --hold ${hold}`, async (t) => {
    await start_helper(t, { config: { limits: { socketsPerUid: 20 } } });
    const code = `${BIND}
kept = [bind(801)]
for first in (810, 840):
    some = [bind(first + i) for i in range(19)]
    print([s for s in some if isinstance(s, int)], bind(899))
    for s in some: s.close()
again = bind(810 if ${hold} == 0 else 840)
print(again.getsockname()[1] - (810 if ${hold} == 0 else 840), kept[0].getsockname()[1])`;
    const { stdout, stderr } = await run(t, alice, python(code, "--hold", hold));
    assert.equal(stdout, "[] 13\n[] 13\n0 801\n", stderr);
    assert.match(stderr, /^lowport exec: bind tcp 127\.0\.0\.1:899: EDQUOT.*socketsPerUid/);
  });

test("a child that has the socket keeps the lease when the program that bound it has ended", async (t) => {
  await start_helper(t);
  const program = new Program(
    t,
    alice,
    python(`${BIND}
s = bind()
if os.fork(): os._exit(0)
os.setsid(); print("child", os.getpid(), flush=True); signal.pause()`),
  );
  const [, pid] = await program.printed(/child (\d+)/);
  await until("the parent has ended", () => program.process.exitCode === 0);
  const [lease] = await all_leases();
  assert.deepEqual([lease?.state, lease?.port], ["active", 80]);
  process.kill(Number(pid), "SIGKILL");
  await no_leases();
  await no_supervisors();
});

test("a process that may not be looked into keeps its socket's lease; one that is dead does not", async (t) => {
  await start_helper(t);
  const program = new Program(
    t,
    alice,
    python(`import ctypes
${BIND}
s = bind()
if os.fork() == 0:
    ctypes.CDLL(None).prctl(4, 0)  # PR_SET_DUMPABLE
    print("hidden", flush=True); sys.stdin.readline(); os._exit(0)
s.close(); print(bind(), bind(), flush=True)
os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)  # it stays a zombie
print(bind().getsockname()[1], flush=True)`),
  );
  await program.printed(/hidden/);
  await program.printed(/98 98/);
  assert.deepEqual(
    (await all_leases()).map(({ port }) => port),
    [80],
  );
  program.process.stdin?.end("\n");
  await program.printed(/^80$/m);
});

test("restarted at once, 20 times, it gets its port each time: without --hold and with", async (t) => {
  await start_helper(t);
  const code = `${BIND}\nprint(bind().getsockname()[1])`;
  for (let i = 0; i < 20; i++) {
    const { stdout, stderr } = await run(t, alice, python(code, ...(i < 10 ? [] : ["--hold", "30"])));
    assert.equal(stdout, "80\n", stderr);
  }
});

test("started again before the supervisor of the first has noticed its end, it waits for that", async (t) => {
  await no_supervisors();
  const helper = await start_helper(t);
  const code = `${BIND}\nprint(bind().getsockname()[1], flush=True); time.sleep(3600)`;
  const first = new Program(t, alice, python(code));
  await first.printed(/^80$/m);
  const [slow = 0] = supervisors();
  await freeze({ pid: slow });
  await first.kill("SIGKILL");
  const second = new Program(t, alice, python(code));
  await helper.recorded("the refusal", (line) => line.method === "bind" && line.code === "EADDRINUSE");
  process.kill(slow, "SIGCONT");
  await second.printed(/^80$/m);
});

test("--hold keeps the listener over a restart: who connects meanwhile is served by the next", async (t) => {
  await start_helper(t);
  const serve = (name: string) => `${BIND}
s = bind(); print("serving", flush=True)
c, _ = s.accept(); c.sendall(b"${name}"); c.close(); print("served", flush=True)`;
  const first = new Program(t, alice, python(`${serve("first")}\ntime.sleep(3600)`, "--hold", "30"));
  await first.printed(/serving/);
  assert.equal(await connects(80), true);
  await first.printed(/served/);
  await first.kill("SIGKILL");
  await until("the lease is held", async () => (await all_leases())[0]?.state === "held");
  const waiting = connects(80);
  const second = new Program(t, alice, python(serve("second"), "--hold", "30"));
  assert.equal(await waiting, true);
  assert.equal((await second.ended()).stdout, "serving\nserved\n");
  await until("the lease is held", async () => (await all_leases())[0]?.state === "held");
});

test("with --hold a listener that is closed and bound again in one program is the same one", async (t) => {
  await start_helper(t);
  const code = `${BIND}
s = bind(); s.setblocking(False); number = os.fstat(s.fileno()).st_ino; s.close()
c = socket.create_connection(("127.0.0.1", 80)); own = c.getsockname()
s = bind(); print(os.fstat(s.fileno()).st_ino == number, s.accept()[1] == own)`;
  const { stdout, stderr } = await run(t, alice, python(code, "--hold", "30"));
  assert.equal(stdout, "True True\n", stderr);
  assert.equal((await all_leases()).length, 1);
});
