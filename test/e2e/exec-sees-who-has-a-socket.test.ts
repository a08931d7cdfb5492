/**
 * A lease under `lowport exec` lives as long as anything of the program has the socket: a thread that has outlived the first
 * one, or has descriptors of its own, a message on its way, a process that nobody may look at. And what is put at the number of
 * a socket while it is bound stays there.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { all_leases, as_user, freeze, no_leases } from "./client-app.js";
import { connects, exec, no_supervisors, Program, supervisors, tool } from "./exec-program.js";
import { start_helper, until } from "./helper-process.js";

await enter_box(import.meta.url);

/** The tests ask every few milliseconds whether there are leases, for seconds: more often than a user may. */
const OFTEN = { config: { limits: { requestsPerSecond: 100_000, requestBurst: 100_000 } } };

const { alice } = USERS;
const START = `import ctypes, os, signal, socket, sys, threading, time
libc = ctypes.CDLL(None)
def say(word): os.write(1, (word + "\\n").encode())
def hear(): os.read(0, 1)
def bind(port):
    s = socket.socket(); s.bind(("127.0.0.1", port)); s.listen(); return s
def end_thread(): libc.syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
`;
const python = (code: string, ...options: string[]) => exec(...options, "--", "/usr/bin/python3", "-c", START + code);
const ports = async () => (await all_leases()).map(({ port }) => port).toSorted((a, b) => a - b);

/** The supervisor has looked several times who has what: it sleeps in between. */
async function looks(): Promise<void> {
  const [pid] = supervisors();
  const sleeps = () => Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
  const before = sleeps();
  await until("the supervisor looks", () => sleeps() > before + 12);
}

for (const [what, code] of [
  [
    "the first thread has bound it and ended",
    `s = bind(80)\nthreading.Thread(target=lambda: (hear(), s.close(), hear())).start()`,
  ],
  [
    "the first thread has ended, and another one has bound it after that",
    `def serve(): hear(); s = bind(80); say("late"); hear(); s.close(); hear()\nthreading.Thread(target=serve).start()`,
  ],
] as const)
  test(`${what}: the lease lives until it is closed`, async (t) => {
    await start_helper(t, OFTEN);
    const program = new Program(t, alice, python(`${code}\nsay("ready"); end_thread()`));
    await program.printed(/ready/);
    await until("the first thread has ended", () => /^State:\s+Z/m.test(tool("cat", `/proc/${program.pid}/status`)));
    if (code.includes("late")) {
      program.process.stdin?.write("x");
      await program.printed(/late/);
    }
    await looks();
    assert.deepEqual(await ports(), [80]);
    program.process.stdin?.write("x");
    await no_leases();
    assert.equal(await connects(80), false);
    assert.equal(program.process.exitCode, null);
    await program.kill("SIGKILL");
    await no_supervisors();
  });

test("with --hold, the listener of a program whose first thread has ended is held when the program ends", async (t) => {
  await start_helper(t, OFTEN);
  const code = `s = bind(80)\nthreading.Thread(target=lambda: (hear(), os._exit(0))).start()\nsay("ready"); end_thread()`;
  const program = new Program(t, alice, python(code, "--hold", "1"));
  await program.printed(/ready/);
  const [lease] = await all_leases();
  // Longer than two looks and the hold: nobody has closed it.
  await until("time has passed", () => Date.now() > Date.parse(lease?.since ?? "") + 5000);
  assert.deepEqual(await ports(), [80]);
  program.process.stdin?.write("x");
  await until("it is held", async () => (await all_leases())[0]?.state === "held");
});

test("a thread with descriptors of its own (unshare) has bound it: the lease lives as long as the thread", async (t) => {
  await start_helper(t, OFTEN);
  const program = new Program(
    t,
    alice,
    python(`def serve():
    assert libc.unshare(0x400) == 0  # CLONE_FILES
    s = bind(80); number = os.dup2(s.fileno(), 77); s.close(); say("bound"); hear()
threading.Thread(target=serve).start()
signal.pause()`),
  );
  await program.printed(/bound/);
  await looks();
  assert.deepEqual(await ports(), [80]);
  program.process.stdin?.write("x");
  await no_leases();
});

test("a socket on its way to another process: the lease lives, and ends if nobody ever takes it out", async (t) => {
  await start_helper(t, OFTEN);
  const program = new Program(
    t,
    alice,
    python(`a, b = socket.socketpair(); s = bind(80)
socket.send_fds(a, [b"x"], [s.fileno()]); s.close(); say("sent"); hear()
_, [fd], _, _ = socket.recv_fds(b, 1, 1); say("received"); hear()
socket.send_fds(a, [b"x"], [fd]); os.close(fd); say("forgotten"); signal.pause()`),
  );
  await program.printed(/sent/);
  await looks();
  assert.deepEqual(await ports(), [80]);
  program.process.stdin?.write("x");
  await program.printed(/received/);
  await looks();
  assert.deepEqual(await ports(), [80]);
  program.process.stdin?.write("x");
  await program.printed(/forgotten/);
  await no_leases();
});

test("a program that /proc does not show (hidepid=2, and not dumpable) keeps its lease until it ends", async (t) => {
  await start_helper(t, OFTEN);
  const hide = ["unshare", "-m", "sh", "-c", 'mount -t proc -o hidepid=2 proc /proc && exec "$@"', "sh"];
  const code = `s = bind(80); libc.prctl(4, 0); say("hidden"); hear()`;
  const program = new Program(t, { ...alice, uid: 0, gid: 0, groups: [] }, python(code), {
    wrapper: [...hide, ...as_user(alice)],
  });
  await program.printed(/hidden/);
  await looks();
  assert.deepEqual(await ports(), [80]);
  program.process.stdin?.write("x");
  await program.ended();
  await no_leases();
});

test("what another thread puts at the number while the helper is asked stays there, and the bind fails", async (t) => {
  const helper = await start_helper(t, OFTEN);
  const program = new Program(
    t,
    alice,
    python(`first = bind(801); s = socket.socket(); say("ready"); hear()
def work():
    try: s.bind(("127.0.0.1", 80)); say("bound")
    except OSError as e: say("error %d" % e.errno)
thread = threading.Thread(target=work); thread.start(); hear()
file = os.open("/etc/passwd", os.O_RDONLY); os.dup2(file, s.fileno()); say("replaced")
thread.join(); say(os.readlink("/proc/self/fd/%d" % s.fileno())); hear()`),
  );
  await program.printed(/ready/);
  await freeze(helper);
  program.process.stdin?.write("x");
  await until("the helper is asked", () => /ESTAB +[1-9]\d* .*lowport\.sock/.test(tool("ss", "-xH")));
  program.process.stdin?.write("x");
  await program.printed(/replaced/);
  helper.process.kill("SIGCONT");
  await program.printed(/\/etc\/passwd/);
  assert.match(program.stdout, /error 13/);
  assert.match(program.stderr, /the program has closed the socket meanwhile, or put something else in its place/);
  await until("the lease is given back", async () => String(await ports()) === "801");
});

test("where another number of the process has the socket, that one is bound", async (t) => {
  const helper = await start_helper(t, OFTEN);
  const program = new Program(
    t,
    alice,
    python(`first = bind(801); s = socket.socket(); copy = s.dup(); say("ready"); hear()
thread = threading.Thread(target=lambda: s.bind(("127.0.0.1", 80))); thread.start(); hear()
s.close(); say("closed"); thread.join(); say(str(copy.getsockname())); hear()`),
  );
  await program.printed(/ready/);
  await freeze(helper);
  program.process.stdin?.write("x");
  await until("the helper is asked", () => /ESTAB +[1-9]\d* .*lowport\.sock/.test(tool("ss", "-xH")));
  program.process.stdin?.write("x");
  await program.printed(/closed/);
  helper.process.kill("SIGCONT");
  await program.printed(/'127\.0\.0\.1', 80/);
  await looks();
  assert.deepEqual(await ports(), [80, 801]);
});
