/** What a program under `lowport exec` sees and what the person at its stderr reads when it does not get its port. */
import assert from "node:assert/strict";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { freeze, get } from "./client-app.js";
import { exec, folder_of, no_supervisors, Program, type RunOptions, run, tool } from "./exec-program.js";
import { start_helper, until } from "./helper-process.js";

await enter_box(import.meta.url);

const { alice, mallory } = USERS;
/** Binds each port in turn and prints the errno's name, or "bound". */
const BIND = `
import errno, socket, sys
kept = []
for word in sys.argv[1:]:
    host, port = word.rsplit("@")
    s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try: s.bind((host, int(port))); kept.append(s); print("bound", flush=True)
    except OSError as e: print(errno.errorcode[e.errno], flush=True)
`;
const bind = (...where: string[]) => ["/usr/bin/python3", "-c", BIND, ...where];

test("denied: the program sees EACCES, and stderr shows the helper's reason once for an address", async (t) => {
  const helper = await start_helper(t);
  const { stdout, stderr, code } = await run(t, alice, exec("--", ...bind("0.0.0.0@25", "0.0.0.0@25", "::@25")));
  assert.deepEqual([code, stdout], [0, "EACCES\nEACCES\nEACCES\n"]);
  const lines = stderr.trim().split("\n");
  assert.equal(lines.length, 2, stderr);
  assert.match(lines[0] ?? "", /^lowport exec: bind tcp 0\.0\.0\.0:25: EACCES: .*is not allowed to uid 2001.*"web", lacks 25/);
  assert.match(lines[1] ?? "", /^lowport exec: bind tcp \[::\]:25: EACCES: /);
  assert.equal(helper.audit().filter((line) => line.decision === "deny").length, 3);
});

test("taken, no address of this host: the program sees what the kernel would have said", async (t) => {
  await start_helper(t);
  const other = new Program(t, USERS.root, ["/usr/bin/python3", "-m", "http.server", "80", "--bind", "127.0.0.1"]);
  await other.serves(() => get(80));
  const { stdout, stderr } = await run(
    t,
    alice,
    exec("--", ...bind("127.0.0.1@80", "192.0.2.1@80", "127.0.0.1@443", "127.0.0.1@443")),
  );
  assert.equal(stdout, "EADDRINUSE\nEADDRNOTAVAIL\nbound\nEADDRINUSE\n");
  assert.match(stderr, /taken by another program or user/);
});

test("taken by this user: who has it, or had it and has it held, in words for who runs programs", async (t) => {
  await start_helper(t);
  const ports = ["127.0.0.1@80", "::1@443"];
  const first = new Program(t, alice, exec("--hold", "30", "--", ...bind(...ports), "::1@443", "no@1"));
  await first.ended(); // "no" is no address
  assert.match(first.stderr, /^lowport exec: bind tcp \[::1\]:443: EADDRINUSE: this program has the port already/m);
  const held = await run(t, alice, exec("--", ...bind("0.0.0.0@80")));
  assert.equal(held.stdout, "EADDRINUSE\n");
  assert.match(
    held.stderr,
    /tcp 127\.0\.0\.1:80 is held for the next start of python3 of this user, for 30 s at most, and this is/,
  );
  const code = `${BIND}\nsys.stdin.readline()`;
  const active = new Program(t, alice, exec("--", "/usr/bin/python3", "-c", code, "::1@800"));
  await active.printed(/bound/);
  const second = await run(t, alice, exec("--", ...bind("::1@800")));
  assert.equal(second.stdout, "EADDRINUSE\n");
  assert.match(second.stderr, /python3 of this user has tcp \[::1\]:800; end it first \(lease [0-9a-f]+ in `lowport list`\)/);
  for (const { stderr } of [first, held, second]) assert.doesNotMatch(stderr, /release it|"share"/);
});

test("no helper, no access to it, a socket of nobody's: EACCES, and what to do about it", async (t) => {
  const missing = await run(t, alice, exec("--", ...bind("0.0.0.0@80")), { env: { LOWPORT_SOCKET: "/run/none.sock" } });
  assert.equal(missing.stdout, "EACCES\n");
  assert.match(missing.stderr, /there is no lowport helper at \/run\/none\.sock/);
  const helper = await start_helper(t);
  const outsider = await run(t, mallory, exec("--", ...bind("0.0.0.0@80")));
  assert.equal(outsider.stdout, "EACCES\n");
  assert.match(outsider.stderr, /must be in group "lowport"/);
  helper.process.kill("SIGKILL");
  await helper.ended();
  const stale = await run(t, alice, exec("--", ...bind("0.0.0.0@80")));
  assert.equal(stale.stdout, "EACCES\n");
  assert.match(stale.stderr, /is not running/);
});

test("out of quota, and a hold that the rule does not allow: EACCES with the limit's name", async (t) => {
  await start_helper(t, { config: { limits: { socketsPerUid: 2 } } });
  const many = await run(t, alice, exec("--", ...bind("127.0.0.1@801", "127.0.0.1@802", "127.0.0.1@803")));
  assert.equal(many.stdout, "bound\nbound\nEACCES\n");
  assert.match(many.stderr, /EDQUOT.*socketsPerUid/);
  await no_supervisors();
  const long = await run(t, alice, exec("--hold", "3600", "--", ...bind("127.0.0.1@801")));
  assert.equal(long.stdout, "EACCES\n");
  assert.match(long.stderr, /maxHoldSeconds/);
});

/** Waits for a word on stdin before each bind, so that the test decides what has happened before. */
const STEPS = `
import errno, socket, sys
kept = []
print("ready", flush=True)
for line in sys.stdin:
    s = socket.socket()
    try: s.bind(("127.0.0.1", int(line))); kept.append(s); print("bound", int(line), flush=True)
    except OSError as e: print(errno.errorcode[e.errno], int(line), flush=True)
`;
const steps = (options?: string[]) => exec(...(options ?? []), "--", "/usr/bin/python3", "-c", STEPS);

test("the helper stops and comes back: in between EACCES, then served again", async (t) => {
  const helper = await start_helper(t);
  const program = new Program(t, alice, steps());
  await program.printed(/ready/);
  program.process.stdin?.write("801\n");
  await program.printed(/bound 801/);
  await helper.stop();
  program.process.stdin?.write("802\n");
  await program.printed(/EACCES 802/);
  // Its socket serves all the while.
  tool("sh", "-c", "ss -ltn | grep -q 127.0.0.1:801");
  const next = await start_helper(t, { keep: true });
  program.process.stdin?.write("803\n");
  await program.printed(/bound 803/);
  assert.ok(next.audit().some((line) => line.params?.["port"] === 803 && line.decision === "allow"));
});

test("a slow helper is waited for, and bind does not return before", async (t) => {
  const helper = await start_helper(t);
  const program = new Program(t, alice, steps());
  await program.printed(/ready/);
  program.process.stdin?.write("801\n");
  await program.printed(/bound 801/);
  await freeze(helper);
  program.process.stdin?.write("802\n");
  await until("the program waits in bind", () => tool("cat", `/proc/${program.pid}/syscall`).startsWith("49 "));
  helper.process.kill("SIGCONT");
  await program.printed(/bound 802/);
});

test("a helper that hangs: EACCES after 3 s, and a signal that came meanwhile is handled then", async (t) => {
  const helper = await start_helper(t);
  const code = `
import errno, signal, socket, sys, time
seen = []
signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
s = socket.socket(); s.bind(("127.0.0.1", 801)); print("ready", flush=True); sys.stdin.readline()
signal.setitimer(signal.ITIMER_REAL, 0.5)
start = time.monotonic()
try: socket.socket().bind(("127.0.0.1", 802))
except OSError as e: print(errno.errorcode[e.errno], round(time.monotonic() - start), seen)`;
  const program = new Program(t, alice, exec("--", "/usr/bin/python3", "-c", code));
  await program.printed(/ready/);
  await freeze(helper);
  program.process.stdin?.write("\n");
  const { stdout, stderr } = await program.ended();
  helper.process.kill("SIGCONT");
  assert.match(stdout, /^EACCES [345] \[1\]$/m);
  assert.match(stderr, /ETIMEDOUT: the lowport helper at .* did not answer within/);
});

test("no such program: 127; one that cannot be executed, or a folder: 126; nothing is left behind", async (t) => {
  const folder = folder_of(alice, "programs");
  writeFileSync(`${folder}/text`, "no program");
  writeFileSync(`${folder}/script`, "echo from a script without a first line; exit 3\n");
  chmodSync(`${folder}/script`, 0o755);
  mkdirSync(`${folder}/folder`, { recursive: true });
  for (const [name, code, message] of [
    ["no-such-program", 127, /no-such-program: there is no such program in PATH/],
    [`${folder}/none`, 127, /there is no such program\n/],
    ["", 127, /there is no such program/],
    [`${folder}/text`, 126, /it cannot be executed/],
    [`${folder}/folder`, 126, /it cannot be executed/],
  ] as const) {
    const result = await run(t, alice, exec("--", name));
    assert.deepEqual([result.code, result.stdout], [code, ""], result.stderr);
    assert.match(result.stderr, message);
  }
  // A name that is no text: the shell gives it as bytes, which this test's own language could not.
  const odd = `cp /bin/echo "$0/$(printf 'e\\377')"; PATH="$0/$(printf 'p\\377'):$0"; exec "$@" "$(printf 'e\\377')" it runs`;
  const bytes = await run(t, alice, ["sh", "-c", odd, folder, ...exec("--")]);
  assert.deepEqual([bytes.code, bytes.stdout], [0, "it runs\n"], bytes.stderr);
  const script = await run(t, alice, exec("--", `${folder}/script`));
  assert.deepEqual([script.code, script.stdout], [3, "from a script without a first line\n"], "as a shell would run it");
  // It passes the look, but the kernel cannot execute it.
  writeFileSync(`${folder}/broken`, "#!/no/such/interpreter\n");
  chmodSync(`${folder}/broken`, 0o755);
  const broken = await run(t, alice, exec("--", `${folder}/broken`));
  assert.deepEqual([broken.code, /ENOENT/.test(broken.stderr)], [127, true], broken.stderr);
  await no_supervisors();
});

test("wrong words: 64 and what is wrong with them", async (t) => {
  for (const [args, message] of [
    [[], /which program/],
    [["--"], /which program/],
    [["--hold", "soon", "--", "true"], /--hold/],
    [["--hold"], /needs a value/],
    [["--listen", "tcp:0", "--", "true"], /--listen takes/],
    [["--fast", "--", "true"], /no option --fast/],
  ] as const) {
    const { code, stderr } = await run(t, alice, exec(...args));
    assert.equal(code, 64, stderr);
    assert.match(stderr, message);
  }
  const { code, stdout } = await run(t, alice, exec("--help"));
  assert.deepEqual([code, /lowport exec \[--hold/.test(stdout)], [0, true]);
});

test("what others have named does not act on a terminal", async (t) => {
  await start_helper(t);
  const red = "\u001b[31mRED\u0007";
  const shown = "\\u{1b}[31mRED\\u{7}";
  const rename = `
import ctypes
libc = ctypes.CDLL(None)
libc.prctl(15, sys.argv.pop().encode())  # PR_SET_NAME
if os.fork(): os.wait(); os._exit(0)
libc.prctl(4, 0)  # PR_SET_DUMPABLE
`;
  const hidden = ["/usr/bin/python3", "-c", `import os, sys${rename}${BIND}`, "127.0.0.1@80", red];
  for (const words of [[red], ["--listen", red, "--", "true"], [`--${red}`], ["--", ...hidden]]) {
    const { stderr } = await run(t, alice, exec(...words));
    assert.ok(stderr.includes(shown), stderr);
    assert.doesNotMatch(stderr, /[^\n\P{Cc}]/u);
  }
});

test("one under the other: the outer counts, and says so", async (t) => {
  await start_helper(t);
  const { stdout, stderr, code } = await run(t, alice, exec("--", ...exec("--", ...bind("127.0.0.1@80"))));
  assert.deepEqual([code, stdout], [0, "bound\n"]);
  assert.match(stderr, /a supervisor watches this process already/);
  await no_supervisors();
});

test("a complaint goes to the stderr of the process that asked, and only if it is one", async (t) => {
  await start_helper(t);
  const folder = folder_of(alice, "stderr");
  const redirected = async (how: string, options?: RunOptions) =>
    (await run(t, alice, exec("--", "sh", "-c", `"$@" ${how}`, "sh", ...bind("127.0.0.1@25")), options)).stderr;
  assert.match(await redirected(""), /not allowed/);
  assert.equal(await redirected(`2>${folder}/log`), "");
  assert.match(tool("cat", `${folder}/log`), /not allowed/);
  // A daemon that has closed its stderr, and then opened its database.
  writeFileSync(`${folder}/data`, "precious");
  chmodSync(`${folder}/data`, 0o666);
  assert.equal(await redirected(`2<>${folder}/data`), "");
  assert.equal(tool("cat", `${folder}/data`), "precious");
  assert.equal(await redirected("2>&-"), "");
  assert.equal(await redirected(`1<>${folder}/data 2>${folder}/data`), "");
  assert.match(tool("cat", `${folder}/data`), /not allowed/, "a log that begins");
  assert.equal(await redirected(`2>>${folder}/log`), "");
  assert.equal(tool("cat", `${folder}/log`).match(/not allowed/g)?.length, 2);
  assert.match(await redirected("2>&1 | cat >&2"), /not allowed/);
});

test("a complaint does not go into a file or pipe that the program has opened itself, after it has closed its stderr", async (t) => {
  await start_helper(t);
  const folder = folder_of(alice, "own");
  const close = (open: string, look: string) => `
import fcntl, os, select, socket, sys
os.close(2); ${open}
try: socket.socket().bind(("127.0.0.1", 25))
except PermissionError: print(${look})`;
  const file = (flags: string) => `os.open("${folder}/data", os.O_WRONLY | os.O_CREAT | ${flags})`;
  const empty = `os.path.getsize("${folder}/data")`;
  writeFileSync(`${folder}/old`, "precious");
  chmodSync(`${folder}/old`, 0o666);
  for (const [open, look, found] of [
    [`assert ${file("0")} == 2`, empty, "0"],
    [`assert ${file("os.O_APPEND")} == 2`, empty, "0"],
    [
      `assert os.open("${folder}/old", os.O_WRONLY) == 2; os.set_inheritable(2, True)`,
      `open("${folder}/old").read()`,
      "precious",
    ],
    ["os.open('/dev/null', 0); r, w = os.pipe(); os.dup2(w, 2)", "select.select([r], [], [], 0)[0]", "[]"],
  ] as const) {
    const { stdout, stderr } = await run(t, alice, exec("--", "/usr/bin/python3", "-c", close(open, look)));
    assert.deepEqual([stdout, stderr], [`${found}\n`, ""], open);
  }
});

test("a socket from before a fork: that the parent's copy is not bound is said, once", async (t) => {
  await start_helper(t);
  const code = `
import os, socket
for port in (801, 802):
    s = socket.socket()
    if os.fork() == 0:
        s.bind(("127.0.0.1", port)); own = socket.socket(); own.bind(("127.0.0.1", port + 10)); os._exit(0)
    os.wait(); print(s.getsockname()[1], flush=True)
s = socket.socket()
if os.fork() == 0: os._exit(0)
s.bind(("127.0.0.1", 803)); os.wait()`;
  const program = new Program(t, alice, exec("--", "/usr/bin/python3", "-c", code));
  const { stdout, stderr } = await program.ended();
  assert.equal(stdout, "0\n0\n");
  const [line, ...more] = stderr.trim().split("\n");
  assert.match(line ?? "", /^lowport exec: process \d+ \(python3\) has bound tcp port 801 to a socket from before a fork\./);
  assert.match(line ?? "", new RegExp(`copy of it in process ${program.pid} \\(python3\\) is not bound`));
  assert.deepEqual(more, []);
});

test("a pipe that nobody reads does not stop the supervisor", async (t) => {
  await start_helper(t);
  const fill = `
import os, sys
r, w = os.pipe()
os.set_blocking(w, False)
try:
    while True: os.write(w, b"x" * 4096)
except BlockingIOError: pass
os.set_blocking(w, True)
os.dup2(w, 2)
exec(sys.argv[1])`;
  const code = BIND.replace("sys.argv[1:]", "sys.argv[2:]");
  const { stdout } = await run(t, alice, exec("--", "/usr/bin/python3", "-c", fill, code, "127.0.0.1@25", "127.0.0.1@80"));
  assert.equal(stdout, "EACCES\nbound\n");
});
