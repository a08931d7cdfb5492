/**
 * A program under `lowport exec` is what it would be without: each thing that the kernel keeps for a process is compared
 * with and without, in processes that are started the same way.
 */
import assert from "node:assert/strict";
import { openSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { type TestContext, test } from "node:test";
import { enter_box, REPOSITORY, USERS } from "./box.js";
import {
  exec,
  folder_of,
  NODE,
  no_supervisors,
  Program,
  type Result,
  type RunOptions,
  run,
  supervisors,
} from "./exec-program.js";
import { until } from "./helper-process.js";

await enter_box(import.meta.url);

const { alice } = USERS;
/** As people start it: by the command's script, which finds node in PATH. */
const LOWPORT = ["sh", join(REPOSITORY, "dist/client/lowport.sh"), "exec", "--"];
const NODE_FIRST = { PATH: `${dirname(NODE)}:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin` };

/** Runs a command without and with `lowport exec`. */
async function both(t: TestContext, command: readonly string[], options: RunOptions = {}, wrapper = LOWPORT) {
  const how = { ...options, env: { ...NODE_FIRST, ...options.env } };
  return [await run(t, alice, command, how), await run(t, alice, [...wrapper, ...command], how)] as const;
}

async function same(t: TestContext, command: readonly string[], options: RunOptions = {}): Promise<Result> {
  const [without, with_it] = await both(t, command, options);
  assert.deepEqual(with_it, without);
  await no_supervisors();
  return without;
}

const python = (code: string, ...args: string[]) => ["/usr/bin/python3", "-c", code, ...args];

test("exit status, and what is written where", async (t) => {
  const { code, stdout, stderr } = await same(t, ["sh", "-c", "echo out; echo err >&2; exit 41"]);
  assert.deepEqual([code, stdout, stderr], [41, "out\n", "err\n"]);
});

for (const signal of ["TERM", "KILL", "SEGV", "PIPE", "INT", "HUP", "USR1", "XFSZ"])
  test(`death by SIG${signal} is seen by the parent as such`, async (t) => {
    assert.equal((await same(t, ["sh", "-c", `kill -${signal} $$; sleep 60`])).signal, `SIG${signal}`);
  });

test("in a service of systemd's, where Node compiles nothing: the same, and nothing on stderr", async (t) => {
  const env = { INVOCATION_ID: "0123456789abcdef0123456789abcdef" };
  const { stdout } = await same(t, ["sh", "-c", "echo out; echo err >&2; env; exit 41"], { env });
  assert.match(stdout, /^INVOCATION_ID=/m);
});

test("words and environment keep their bytes", async (t) => {
  const words = ["", "two words", "--hold", "'\"\\", "\u00fc\n", "-"];
  await same(t, python("import sys, os; print(sys.argv, sorted(os.environb.items()))", ...words), {
    env: { ODD: "a=b\n\u00e9", EMPTY: "", NODE_OPTIONS: "--no-warnings" },
  });
  const bytes = `exec "$@" "$(printf 'caf\\351')"`;
  // Names that a shell has itself, and names that are none of a shell's.
  const names =
    "name path value rest number numbers flags limit soft one two three ignored blocked added main here node IFS PWD OLDPWD SHLVL _";
  const odd = { "a.b": "dot", "spring.profiles.active": "prod", "BASH_FUNC_f%%": "() { :; }", "k/8": "1", "": "nameless" };
  await same(t, python("import os; print(open('/proc/self/environ', 'rb').read())"), {
    env: { ...Object.fromEntries(names.split(" ").map((name) => [name, `my ${name}`])), ...odd },
  });
  const environment = python("import hashlib; print(hashlib.md5(open('/proc/self/environ', 'rb').read()).hexdigest())");
  const large = ["BIG", "lowport_parts"].map((name) => [name, name.repeat(120_000 / name.length)]);
  await same(t, environment, { env: { ...Object.fromEntries(large), ...odd, here: "my here", OPENSSL_CONF: "/etc/passwd" } });
  const show = python("import sys, os; print(os.fsencode(sys.argv[-1]), os.environb[b'BYTES'])");
  const raw = (command: readonly string[]) => [
    "sh",
    "-c",
    `BYTES=$(printf '\\377\\200'); export BYTES; ${bytes}`,
    "sh",
    ...command,
  ];
  const without = await run(t, alice, raw(show), { env: NODE_FIRST });
  assert.deepEqual(await run(t, alice, raw([...LOWPORT, ...show]), { env: NODE_FIRST }), without);
  assert.match(without.stdout, /caf\\xe9.*\\xff\\x80/);
});

/** What /proc says of a process that does not change from run to run. */
const LOOK = `
import os, resource, signal, sys, fcntl, stat
status = dict(line.rstrip("\\n").split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
for name in ["Umask", "Uid", "Gid", "Groups", "SigBlk", "SigIgn", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Threads"]:
    print(name, status[name])
for name in sorted(dir(resource)):
    if name.startswith("RLIMIT_"): print(name, resource.getrlimit(getattr(resource, name)))
print(os.getcwd(), os.nice(0), os.sched_getaffinity(0), open("/proc/self/oom_score_adj").read(), open("/proc/self/comm").read())
print(os.getpgid(0) == os.getpid(), os.getsid(0) == os.getpid(), os.getppid() == int(sys.argv[1]) if len(sys.argv) > 1 else "")
for fd in range(0, 64):
    try: print(fd, stat.S_IFMT(os.fstat(fd).st_mode), fcntl.fcntl(fd, fcntl.F_GETFL), fcntl.fcntl(fd, fcntl.F_GETFD))
    except OSError: pass
print(open("/proc/self/personality").read() if os.geteuid() == 0 else "", open("/proc/self/timerslack_ns").read())
`;

test("signals, limits, descriptors, blocking mode, umask, priority, parent, group and session", async (t) => {
  const inherit = [openSync("/etc/passwd", "r"), openSync("/dev/zero", "r"), openSync("/run", "r")];
  const states = [
    [],
    ["prlimit", "--nofile=64:128"],
    ["prlimit", "--nofile=77", "--core=0", "--stack=1000000:2000000"],
    ["env", "--ignore-signal=HUP,PIPE,INT,USR1", "--block-signal=USR2,TERM"],
    ["sh", "-c", 'umask 027; exec nice -n 5 "$@"', "sh"],
    ["setsid"],
    ["sh", "-c", 'exec "$@" 3>&- 4</dev/null 9</dev/null', "sh"],
    ["sh", "-c", 'exec "$@" <&-', "sh"],
    ["sh", "-c", 'exec "$@" <&- 2>&-', "sh"],
    [...python("import os, sys; [os.set_blocking(fd, False) for fd in (0, 2)]; os.execvp(sys.argv[1], sys.argv[1:])")],
  ];
  for (const wrapper of states) await same(t, python(LOOK, String(process.pid)), { inherit, wrapper });
});

test("a Node program's variables are for its own Node, and its channel to its parent works", async (t) => {
  const folder = folder_of(alice, "node");
  writeFileSync(`${folder}/hook.cjs`, `console.log("hook in", process.argv[1].split("/").pop())`);
  writeFileSync(
    `${folder}/child.mjs`,
    `process.on("message", (text) => process.send(text + " back", () => process.disconnect()));`,
  );
  writeFileSync(
    `${folder}/parent.mjs`,
    `import { spawn } from "node:child_process";
    const [command, ...words] = process.argv.slice(2);
    const child = spawn(command, words, { stdio: ["inherit", "inherit", "inherit", "ipc"] });
    child.on("message", (text) => console.log("parent heard", text));
    child.on("exit", (code) => console.log("exit", code));
    child.send("there and");`,
  );
  const inside = ["node", `${folder}/child.mjs`];
  const env = { ...NODE_FIRST, NODE_OPTIONS: `--require ${folder}/hook.cjs` };
  const without = await run(t, alice, ["node", `${folder}/parent.mjs`, ...inside], { env });
  assert.equal(without.stdout, "hook in parent.mjs\nhook in child.mjs\nparent heard there and back\nexit 0\n");
  assert.deepEqual(await run(t, alice, ["node", `${folder}/parent.mjs`, ...LOWPORT, ...inside], { env }), without);
});

test("started without the command's script, what can be inferred is right", async (t) => {
  const inherit = [openSync("/etc/passwd", "r")];
  const direct = exec("--");
  for (const wrapper of [[], ["sh", "-c", 'exec "$@" 9</dev/zero', "sh"]]) {
    const [without, with_it] = await both(t, python(LOOK), { inherit, wrapper }, direct);
    assert.deepEqual(with_it, without);
  }
});

test("pipes: what is written to stdin arrives, and readers see the end when the program closes", async (t) => {
  const { stdout } = await same(t, ["sh", "-c", "printf 'a b c' | tr ' ' '\\n' | sort -r"]);
  assert.equal(stdout, "c\nb\na\n");
  const cat = new Program(t, alice, [...LOWPORT, "cat"], { env: NODE_FIRST });
  cat.process.stdin?.write("one\n");
  await cat.printed(/one/);
  cat.process.stdin?.end("two");
  assert.deepEqual(await cat.ended(), { code: 0, signal: null, stdout: "one\ntwo", stderr: "" });
});

test("nobody else has the pipe: its reader sees the end although the program lives on", async (t) => {
  await no_supervisors();
  // "close" comes when all ends of stdout and stderr are closed.
  const daemon = python(`
import os, sys, time
null = os.open("/dev/null", os.O_RDWR)
for fd in range(3): os.dup2(null, fd)
time.sleep(3600)`);
  const program = new Program(t, alice, [...LOWPORT, ...daemon], { env: NODE_FIRST });
  const out = program.process.stdout;
  await until("stdout has ended", () => out?.readableEnded === true);
  assert.equal(program.process.exitCode, null);
  assert.equal(supervisors().length, 1);
  await program.kill();
  await no_supervisors();
});

test("wait(-1) finds the program's own children and no others, nor does a SIGCHLD come", async (t) => {
  const { stdout } = await same(
    t,
    python(`
import os, signal
seen = []
signal.signal(signal.SIGCHLD, lambda *_: seen.append(1))
try: print(os.waitpid(-1, os.WNOHANG))
except ChildProcessError: print("none")
pid = os.fork()
if pid == 0: os._exit(7)
found, status = os.waitpid(-1, 0)
print(found == pid, os.waitstatus_to_exitcode(status), len(seen))
print(os.listdir(f"/proc/self/task"  ).__len__(), open(f"/proc/self/task/{os.getpid()}/children").read())`),
  );
  assert.match(stdout, /^none\nTrue 7 1\n1 \n$/);
});

test("children, a process group of theirs, threads, exec chains and grandchildren", async (t) => {
  await same(t, ["sh", "-c", "(exit 3); echo $?; sh -c 'exec sh -c \"exec echo deep\"'; (sleep 0; echo last) & wait"]);
  await same(
    t,
    python(`
import os, threading
done = []
threads = [threading.Thread(target=lambda i=i: done.append(i)) for i in range(20)]
[t.start() for t in threads]; [t.join() for t in threads]
print(sorted(done))
pid = os.fork()
if pid == 0:
    os.setpgid(0, 0); os.setsid() if os.getpgid(0) != os.getpid() else None
    os.execvp("sh", ["sh", "-c", "exit 9"])
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))`),
  );
});

test("a daemon that leaves by fork and setsid goes on, and its supervisor with it", async (t) => {
  await no_supervisors();
  const code = `
import os, sys, time
if os.fork(): os._exit(5)
os.setsid()
if os.fork(): os._exit(0)
null = os.open("/dev/null", os.O_RDWR)
for fd in range(3): os.dup2(null, fd)
open(sys.argv[1], "w").write(str(os.getpid()))
time.sleep(3600)`;
  const file = `${folder_of(alice, "daemon")}/pid`;
  const { code: status } = await run(t, alice, [...LOWPORT, ...python(code, file)], { env: NODE_FIRST });
  assert.equal(status, 5);
  const pid = await until("the daemon says its number", () => {
    try {
      return Number(readFileSync(file, "utf8")) || undefined;
    } catch {
      return undefined;
    }
  });
  assert.equal(supervisors().length, 1);
  process.kill(pid, "SIGKILL");
  await no_supervisors();
});

test("a terminal: control, foreground group, job control and ^C", async (t) => {
  const folder = folder_of(alice, "terminal");
  const inner = `
import os, sys, signal, termios
print("tty", [os.isatty(i) for i in range(3)], os.tcgetpgrp(0) == os.getpgrp(), os.getsid(0) != os.getpid(), flush=True)
print("echo", bool(termios.tcgetattr(0)[3] & termios.ECHO), os.get_blocking(0), os.get_terminal_size(0), flush=True)
signal.signal(signal.SIGINT, lambda *_: (os.write(1, b"interrupted\\n"), os._exit(6)))
print("ready", flush=True)
signal.pause()`;
  writeFileSync(`${folder}/inner.py`, inner);
  // Starts a command on a terminal of its own, types ^C when it is ready, and tells what was seen.
  const outer = `
import os, pty, sys
pid, fd = pty.fork()
if pid == 0: os.execvp(sys.argv[1], sys.argv[1:])
seen = b""
while True:
    try: got = os.read(fd, 1000)
    except OSError: break
    if not got: break
    seen += got
    if seen.endswith(b"ready\\r\\n"): os.write(fd, b"\\x03")
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen.decode())`;
  const shell = (...command: string[]) => python(outer, "sh", "-c", 'trap : INT; "$@"; echo "status $?"', "sh", ...command);
  const inside = ["/usr/bin/python3", `${folder}/inner.py`];
  const without = await run(t, alice, shell(...inside), { env: NODE_FIRST });
  const with_it = await run(t, alice, shell(...LOWPORT, ...inside), { env: NODE_FIRST });
  assert.match(without.stdout, /interrupted\r\nstatus 6/);
  assert.deepEqual(with_it, without);
});

test("stopped and continued, the parent sees both", async (t) => {
  const watch = (...command: string[]) =>
    python(
      `
import os, signal, sys
pid = os.fork()
if pid == 0: os.execvp(sys.argv[1], sys.argv[1:])
_, status = os.waitpid(pid, os.WUNTRACED); print(os.WIFSTOPPED(status), os.WSTOPSIG(status))
os.kill(pid, signal.SIGCONT)
_, status = os.waitpid(pid, os.WCONTINUED); print(os.WIFCONTINUED(status))
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))`,
      ...command,
    );
  const child = ["sh", "-c", "kill -STOP $$; exit 4"];
  const without = await run(t, alice, watch(...child), { env: NODE_FIRST });
  assert.deepEqual(await run(t, alice, watch(...LOWPORT, ...child), { env: NODE_FIRST }), without);
});

test("it keeps its process id: who started it is its parent", async (t) => {
  const program = new Program(t, alice, [...LOWPORT, "sh", "-c", "echo $$ $PPID; read word"], { env: NODE_FIRST });
  const [, own, parent] = await program.printed(/(\d+) (\d+)/);
  assert.deepEqual([Number(own), Number(parent)], [program.pid, process.pid]);
  program.process.stdin?.end();
  assert.equal((await program.ended()).code, 1);
});

test("the one difference: setuid programs gain nothing", async (t) => {
  const look = ["grep", "-E", "NoNewPrivs|^Seccomp:", "/proc/self/status"];
  const [without, with_it] = await both(t, look);
  assert.deepEqual([without.stdout, with_it.stdout], ["NoNewPrivs:\t0\nSeccomp:\t0\n", "NoNewPrivs:\t1\nSeccomp:\t2\n"]);
});

test("the supervisor has no terminal, folder or pipe of the program's, and no politeness ends it", async (t) => {
  await no_supervisors();
  const program = new Program(t, alice, [...LOWPORT, "sleep", "3600"], { env: NODE_FIRST, cwd: folder_of(alice, "cwd") });
  const [pid = 0] = await until("there is a supervisor", () => (supervisors().length === 1 ? supervisors() : undefined));
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  assert.match(status, /^PPid:\t1$/m);
  assert.match(status, /^Seccomp:\t0$/m);
  const fields_of = (id: number) =>
    readFileSync(`/proc/${id}/stat`, "utf8")
      .replace(/^.*\) /, "")
      .split(" ");
  const [, , , session, terminal] = fields_of(pid);
  const links = readdirSync(`/proc/${pid}/fd`).map((fd) => `${fd} ${readlinkSync(`/proc/${pid}/fd/${fd}`)}`);
  for (const fd of [0, 1, 2]) assert.ok(links.includes(`${fd} /dev/null`), links.join());
  const pipes = links.filter((link) => link.includes("pipe:")).map((link) => link.split(" ")[1]);
  for (const one of pipes) assert.equal(pipes.filter((other) => other === one).length, 2, "both ends are its own");
  assert.equal(readlinkSync(`/proc/${pid}/cwd`), "/");
  assert.equal(readFileSync(`/proc/${pid}/environ`, "utf8"), "");
  assert.equal(terminal, "0");
  assert.notEqual(session, fields_of(program.pid)[3]);
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2"] as const) process.kill(pid, signal);
  await run(t, USERS.root, ["true"]);
  assert.deepEqual(supervisors(), [pid]);
  await program.kill();
  await no_supervisors();
});
