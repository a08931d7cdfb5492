/** Many binds at once, forks, deaths in the middle, and the death of the supervisor. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import process from "node:process";
import { test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { freeze, no_leases } from "./client-app.js";
import { exec, no_supervisors, Program, run, supervisors, tool } from "./exec-program.js";
import { start_helper, until, verify_chain } from "./helper-process.js";

await enter_box(import.meta.url);

const { alice } = USERS;
const rules = [{ name: "many", users: ["alice"], ports: ["1-1023"], maxSockets: 1000 }];
const limits = { socketsPerUid: 1000, requestsPerSecond: 100_000, requestBurst: 100_000 };
const start = { rules, config: { limits } };
const python = (code: string) =>
  exec("--", "/usr/bin/python3", "-c", `import errno, os, signal, socket, sys, threading, time\n${code}`);
const BIND = `
def bind(port):
    s = socket.socket()
    try: s.bind(("127.0.0.1", port)); s.listen(); return s
    except OSError as e: return errno.errorcode[e.errno]
`;
const rss_of = (pid: number) => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);

test("100 ports, each served", async (t) => {
  const helper = await start_helper(t, start);
  const code = `${BIND}
all = [bind(800 + i) for i in range(100)]
for i, s in enumerate(all):
    c = socket.create_connection(("127.0.0.1", 800 + i)); assert s.accept()[1] == c.getsockname()
print(len(all))`;
  const { stdout, stderr } = await run(t, alice, python(code));
  assert.equal(stdout, "100\n", stderr);
  await no_leases();
  await no_supervisors();
  await helper.stop();
  verify_chain();
});

test("50 threads at once", async (t) => {
  await start_helper(t, start);
  const code = `${BIND}
gate = threading.Barrier(50); results = {}
def work(i): gate.wait(); results[i] = bind(800 + i)
threads = [threading.Thread(target=work, args=(i,)) for i in range(50)]
[x.start() for x in threads]; [x.join() for x in threads]
print(sorted(s.getsockname()[1] for s in results.values()) == list(range(800, 850)))`;
  const { stdout, stderr } = await run(t, alice, python(code));
  assert.equal(stdout, "True\n", stderr);
});

test("50 threads for one port: one has it, the others are told that it is taken", async (t) => {
  await start_helper(t, start);
  const code = `${BIND}
gate = threading.Barrier(50); results = []
def work(): gate.wait(); results.append(bind(80))
threads = [threading.Thread(target=work) for i in range(50)]
[x.start() for x in threads]; [x.join() for x in threads]
print(results.count("EADDRINUSE"), len({r for r in results if r != "EADDRINUSE"}))`;
  const { stdout, stderr } = await run(t, alice, python(code));
  assert.equal(stdout, "49 1\n", stderr);
});

test("more binds than the helper lets a user ask for in a second are waited for", async (t) => {
  await start_helper(t, { ...start, config: { limits: { ...limits, requestsPerSecond: 50, requestBurst: 10 } } });
  const { stdout, stderr } = await run(
    t,
    alice,
    python(`${BIND}\nprint(all(not isinstance(bind(800 + i), str) for i in range(60)))`),
  );
  assert.equal(stdout, "True\n", stderr);
});

test("wild forking: 300 processes that bind and die, by themselves and by SIGKILL in the middle", async (t) => {
  const helper = await start_helper(t, start);
  const code = `${BIND}
def child(i):
    if i % 3 == 0: signal.setitimer(signal.ITIMER_REAL, 0.001 * (i % 7 + 1))  # SIGALRM kills it
    for port in range(800 + i % 50, 860, 7): bind(port)
    os._exit(0)
for round in range(10):
    children = []
    for i in range(30):
        pid = os.fork()
        if pid == 0: child(i)
        children.append(pid)
        if i % 5 == 4: os.kill(children[i - 2], signal.SIGKILL)
    for pid in children: os.waitpid(pid, 0)
print("done", bind(80).getsockname()[1])`;
  const { stdout, stderr } = await run(t, alice, python(code));
  assert.match(stdout, /^done 80\n$/, stderr);
  await no_leases();
  await no_supervisors();
  await until("the helper has its descriptors back", () => helper.fd_count() < 40);
});

test("killed while it waits for the helper: nothing is left, and the supervisor serves the others", async (t) => {
  const helper = await start_helper(t, start);
  const program = new Program(
    t,
    alice,
    python(`${BIND}
s = bind(80); print("bound", flush=True); sys.stdin.readline()
pids = [os.fork() for _ in range(1)]
if pids[0] == 0: bind(81); os._exit(0)
print("child", pids[0], flush=True); os.waitpid(pids[0], 0)
print("reaped", flush=True); sys.stdin.readline()
print(bind(82).getsockname()[1], bind(81).getsockname()[1])`),
  );
  await program.printed(/bound/);
  await freeze(helper);
  program.process.stdin?.write("\n");
  const [, child] = await program.printed(/child (\d+)/);
  await until("the child waits in bind", () => tool("cat", `/proc/${child}/syscall`).startsWith("49 "));
  process.kill(Number(child), "SIGKILL");
  await program.printed(/reaped/);
  helper.process.kill("SIGCONT");
  program.process.stdin?.write("\n");
  assert.match((await program.ended()).stdout, /reaped\n82 81\n$/);
  await no_leases();
});

test("a signal that is handled while bind waits does not interrupt it", async (t) => {
  const helper = await start_helper(t, start);
  const program = new Program(
    t,
    alice,
    python(`${BIND}
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
signal.siginterrupt(signal.SIGUSR1, True)
print("first", bind(80).getsockname()[1], flush=True); sys.stdin.readline()
s = bind(81); print(s if isinstance(s, str) else s.getsockname()[1], len(seen))`),
  );
  await program.printed(/first 80/);
  await freeze(helper);
  program.process.stdin?.write("\n");
  // From then on the supervisor has heard of it, and only a signal that kills interrupts it.
  await until("the helper is asked", () => /ESTAB +[1-9]\d* .*lowport\.sock/.test(tool("ss", "-xH")));
  program.process.kill("SIGUSR1");
  helper.process.kill("SIGCONT");
  assert.match((await program.ended()).stdout, /^81 1$/m);
});

test("10,000 binds that are the kernel's leave the supervisor as small as it was", async (t) => {
  await start_helper(t, start);
  const program = new Program(
    t,
    alice,
    python(`${BIND}
for round in range(2):
    for i in range(5000):
        s = socket.socket(); s.bind(("127.0.0.1", 0)); s.close()
    print("round", round, flush=True); sys.stdin.readline()`),
  );
  await program.printed(/round 0/);
  const [pid = 0] = supervisors();
  const fds = () => tool("ls", `/proc/${pid}/fd`).split("\n").length;
  const before = { rss: rss_of(pid), fds: fds() };
  program.process.stdin?.write("\n");
  await program.printed(/round 1/);
  t.diagnostic(`supervisor: ${rss_of(pid)} KiB`);
  assert.ok(rss_of(pid) < before.rss + 8_000, `${before.rss} then ${rss_of(pid)} KiB`);
  assert.ok(rss_of(pid) < 90_000, `${rss_of(pid)} KiB`);
  assert.equal(fds(), before.fds);
  await program.kill();
});

test("the supervisor killed: sockets serve on, a new bind gets ENOSYS, all else works", async (t) => {
  await start_helper(t, start);
  const program = new Program(
    t,
    alice,
    python(`${BIND}
s = bind(80); print("bound", flush=True); sys.stdin.readline()
c = socket.create_connection(("127.0.0.1", 80)); print(s.accept()[1] == c.getsockname(), bind(81), bind(8080), os.system("true"))`),
  );
  await program.printed(/bound/);
  for (const pid of supervisors()) process.kill(pid, "SIGKILL");
  await no_supervisors();
  await no_leases();
  program.process.stdin?.write("\n");
  assert.match((await program.ended()).stdout, /True ENOSYS ENOSYS 0/);
});
