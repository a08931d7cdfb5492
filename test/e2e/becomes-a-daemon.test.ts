/**
 * Promise: `lowportd run --daemon` does each of the 15 steps that daemon(7) asks of a SysV daemon, from whatever surroundings
 * it is started in; and without --daemon the helper does none of them, as daemon(7) asks of a new-style one. The numbers
 * are those of daemon(7); helper/DAEMON.md has both lists.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { type TestContext, test } from "node:test";
import { enter_box, REPOSITORY, USERS } from "./box.js";
import { lowport } from "./client-command.js";
import {
  AUDIT,
  CONFIG,
  clear_audit_log,
  type Outcome,
  read_audit,
  start_helper,
  until,
  verify_chain,
  write_config,
} from "./helper-process.js";

await enter_box(import.meta.url);

const PID_FILE = "/run/lowport/lowport.pid";
const SOCKET = "/run/lowport/lowport.sock";
/** Of the launcher; the helper gets a clean environment. */
const COVERAGE = process.env["NODE_V8_COVERAGE"] === undefined ? {} : { NODE_V8_COVERAGE: process.env["NODE_V8_COVERAGE"] };
const MAIN = join(REPOSITORY, "dist/helper/main.cjs");

/**
 * Starts a command as badly as can be: on a terminal, with descriptors, an ignored and a blocked signal, another folder
 * and umask. Says on descriptor 1 its process id, which is that of its session, and what the terminal showed.
 */
const BAD_SURROUNDINGS = `
import os, pty, signal, sys
pid, terminal = pty.fork()
if pid == 0:
    for number in (9, 77): os.dup2(os.open("/etc/hostname", os.O_RDONLY), number)
    for name in (signal.SIGQUIT, signal.SIGUSR2, signal.SIGCHLD, signal.SIGWINCH): signal.signal(name, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2})
    os.umask(int(sys.argv[1], 8))
    os.chdir("/var/lib")
    dirt = dict(LANG="de_DE.UTF-8", ENV="/etc/hostname", BASH_ENV="/etc/hostname", IFS="/", HOME="/nonexistent", LISTEN_FDS="1")
    os.execve(sys.argv[2], sys.argv[2:], {**os.environ, **dirt})
os.write(1, b"launcher %d\\n" % pid)
try:
    while text := os.read(terminal, 4096): os.write(1, text)
except OSError: pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))`;

async function run(command: readonly string[], env: Record<string, string> = {}): Promise<Outcome> {
  const child = spawn(command[0] as string, command.slice(1), {
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: process.env["PATH"], ...COVERAGE, ...env },
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const [code] = (await once(child, "close")) as [number | null];
  return { code, stdout, stderr };
}

const DAEMON = [process.execPath, MAIN, "run", "--daemon", "--config", CONFIG];

function fresh(): void {
  write_config();
  clear_audit_log();
  rmSync("/run/lowport", { recursive: true, force: true });
}

/** A field of /proc/PID/status. */
const status_of = (pid: number, field: string) =>
  new RegExp(`^${field}:\\s*(.*)$`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? "absent";

/** [state, parent, process group, session, terminal] of proc(5); undefined if there is no such process any more. */
function stat_of(pid: number) {
  try {
    const [state = "", parent, group, session, terminal] = readFileSync(`/proc/${pid}/stat`, "utf8")
      .replace(/^.*\) /s, "")
      .split(" ");
    if (state === "Z" || state === "X") return undefined;
    return { parent: Number(parent), group: Number(group), session: Number(session), terminal: Number(terminal) };
  } catch {
    return undefined;
  }
}

const links_of = (pid: number) =>
  readdirSync(`/proc/${pid}/fd`).map((fd) => [Number(fd), readlinkSync(`/proc/${pid}/fd/${fd}`)] as const);

const pid_in_file = () => Number(readFileSync(PID_FILE, "utf8"));

async function stop(pid: number): Promise<void> {
  if (stat_of(pid) === undefined) return;
  process.kill(pid, "SIGTERM");
  await until("the daemon has ended", () => stat_of(pid) === undefined);
}

/** A daemon that a well-meaning admin started from bad surroundings. */
async function start_daemon(t: TestContext, { keep = false, umask = "0" } = {}) {
  if (!keep) fresh();
  const outcome = await run(["python3", "-c", BAD_SURROUNDINGS, umask, ...DAEMON]);
  assert.equal(outcome.code, 0, JSON.stringify(outcome));
  const pid = pid_in_file();
  t.after(() => stop(pid));
  return { pid, launcher: Number(/^launcher (\d+)$/m.exec(outcome.stdout)?.[1]) };
}

test("SysV 1: no descriptor comes with it but 0, 1 and 2", async (t) => {
  const { pid } = await start_daemon(t);
  const more = links_of(pid).filter(([fd]) => fd > 2);
  const files = new Set(more.map(([, link]) => link).filter((link) => link.startsWith("/")));
  files.delete("/dev/null"); // some versions of Node have it open
  assert.deepEqual([...files].toSorted(), ["/dev/urandom", "/run/lowport/lowport.sock.lock", AUDIT]);
  const of_kind = (kind: string) => more.map(([, link]) => link).filter((link) => link.startsWith(`${kind}:`));
  assert.equal(of_kind("socket").length, 1, "the control socket");
  const pipes = of_kind("pipe");
  for (const pipe of pipes) assert.equal(pipes.filter((one) => one === pipe).length, 2, "it has both ends of its pipes");
});

test("SysV 2: signals do what they do by default, but for those that the program sets", async (t) => {
  const { pid } = await start_daemon(t);
  // Node ignores SIGPIPE (13) and on some versions SIGXFSZ (25) itself.
  const ignored = BigInt(`0x${status_of(pid, "SigIgn")}`) & ~((1n << 12n) | (1n << 24n));
  assert.equal(ignored, 0n);
});

test("SysV 3: no signal is blocked", async (t) => {
  const { pid } = await start_daemon(t);
  assert.equal(status_of(pid, "SigBlk"), "0".repeat(16));
});

test("SysV 4: nothing of the environment comes with it", async (t) => {
  const { pid } = await start_daemon(t);
  const entries = readFileSync(`/proc/${pid}/environ`, "utf8")
    .split("\0")
    .filter((entry) => entry !== "");
  assert.ok(entries.includes("PATH=/usr/sbin:/usr/bin:/sbin:/bin"), entries.join(" "));
  // Some shells export these of themselves; the last is how Node 22 starts again (io-uring.ts).
  const own = new Set(["PATH", "PWD", "OLDPWD", "SHLVL", "_", "LOWPORT_STARTED_AGAIN"]);
  if (process.env["NODE_V8_COVERAGE"]) own.add("NODE_V8_COVERAGE"); // Node passes it on by itself
  assert.deepEqual(
    entries.map((entry) => entry.split("=")[0] ?? "").filter((name) => !own.has(name)),
    [],
  );
});

test("SysV 5: it goes on in the background", async (t) => {
  const { pid, launcher } = await start_daemon(t);
  assert.ok(launcher > 0 && pid !== launcher);
  assert.equal(stat_of(launcher), undefined);
  assert.ok(stat_of(pid) !== undefined);
});

test("SysV 6: it is in a session of its own, without a terminal", async (t) => {
  const { pid, launcher } = await start_daemon(t);
  const stat = stat_of(pid);
  assert.equal(stat?.terminal, 0);
  assert.notEqual(stat?.session, launcher);
  assert.notEqual(stat?.session, stat_of(process.pid)?.session);
});

test("SysV 7: it does not lead its session, so it can never get a terminal", async (t) => {
  const { pid } = await start_daemon(t);
  const session = stat_of(pid)?.session ?? 0;
  assert.ok(session > 0);
  assert.notEqual(session, pid);
});

test("SysV 8: what is between has ended, and it is a child of PID 1", async (t) => {
  const { pid } = await start_daemon(t);
  const stat = await until("it has a new parent", () => {
    const now = stat_of(pid);
    return now?.parent === 1 && now;
  });
  assert.equal(stat_of(stat.session), undefined, "the leader of its session");
  const others = readdirSync("/proc").filter((name) => /^\d+$/.test(name) && stat_of(Number(name))?.session === stat.session);
  assert.deepEqual(others, [String(pid)]);
});

test("SysV 9: descriptors 0, 1 and 2 are /dev/null", async (t) => {
  const { pid } = await start_daemon(t);
  assert.deepEqual(
    links_of(pid).filter(([fd]) => fd <= 2),
    [0, 1, 2].map((fd) => [fd, "/dev/null"]),
  );
});

test("SysV 9: also if the launcher was started without any", async (t) => {
  fresh();
  const outcome = await run(["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", ...DAEMON]);
  assert.equal(outcome.code, 0, JSON.stringify(outcome));
  const pid = pid_in_file();
  t.after(() => stop(pid));
  const standard = links_of(pid).filter(([fd]) => fd <= 2);
  assert.deepEqual(
    standard,
    [0, 1, 2].map((fd) => [fd, "/dev/null"]),
  );
});

test("SysV 10: the umask is its own, and files have their modes whatever the admin's was", async (t) => {
  for (const umask of ["0", "777"]) {
    const { pid } = await start_daemon(t, { umask });
    assert.equal(status_of(pid, "Umask"), "0027");
    const modes = [PID_FILE, SOCKET, "/run/lowport"].map((path) => (lstatSync(path).mode & 0o7777).toString(8));
    assert.deepEqual(modes, ["644", "660", "755"]);
    await stop(pid);
  }
});

test("SysV 11: its folder is /", async (t) => {
  const { pid } = await start_daemon(t);
  assert.equal(readlinkSync(`/proc/${pid}/cwd`), "/");
});

test("SysV 12: the pid file is root's, and a second start changes nothing: 1", async (t) => {
  const { pid } = await start_daemon(t);
  assert.equal(readFileSync(PID_FILE, "utf8"), `${pid}\n`);
  const before = lstatSync(PID_FILE);
  assert.deepEqual([before.uid, before.gid, before.mode & 0o7777], [0, 0, 0o644]);
  const second = await run(DAEMON);
  assert.equal(second.code, 1, JSON.stringify(second));
  assert.match(second.stderr, /another helper is serving on this socket; stop it first/);
  const { ino, mtimeMs } = lstatSync(PID_FILE);
  assert.deepEqual([ino, mtimeMs, readFileSync(PID_FILE, "utf8")], [before.ino, before.mtimeMs, `${pid}\n`]);
  assert.equal((await lowport(USERS.alice, ["status"])).code, 0);
  assert.deepEqual(readdirSync("/run/lowport").toSorted(), ["lowport.pid", "lowport.sock", "lowport.sock.lock"]);
});

test("SysV 12: of many starts at the same time one wins, and the pid file is its", async (t) => {
  fresh();
  const outcomes = await Promise.all(Array.from({ length: 4 }, () => run(DAEMON)));
  const pid = pid_in_file();
  t.after(() => stop(pid));
  assert.deepEqual(
    outcomes.map(({ code }) => code).toSorted((a, b) => Number(a) - Number(b)),
    [0, 1, 1, 1],
    JSON.stringify(outcomes),
  );
  const { stdout } = await lowport(USERS.alice, ["status", "--json"]);
  assert.equal(JSON.parse(stdout).pid, pid);
});

test("SysV 12: a pid file that a killed helper left is replaced", async (t) => {
  const first = await start_daemon(t);
  process.kill(first.pid, "SIGKILL");
  await until("it has ended", () => stat_of(first.pid) === undefined);
  assert.equal(pid_in_file(), first.pid, "nobody removed it");
  const { pid } = await start_daemon(t, { keep: true });
  assert.notEqual(pid, first.pid);
});

test("SysV 12: --pid-file says where, and a folder that is not root's alone is refused", async (t) => {
  fresh();
  mkdirSync("/run/elsewhere");
  const other = "/run/elsewhere/other.pid";
  const outcome = await run([...DAEMON, "--pid-file", other]);
  assert.equal(outcome.code, 0, JSON.stringify(outcome));
  const pid = Number(readFileSync(other, "utf8"));
  t.after(() => stop(pid));
  assert.ok(!existsSync(PID_FILE));
  await stop(pid);
  rmSync(other);
  chmodSync("/run/elsewhere", 0o777);
  const refused = await run([...DAEMON, "--pid-file", other]);
  assert.ok([1, 78].includes(refused.code ?? 0), JSON.stringify(refused));
  assert.match(refused.stderr, /\/run\/elsewhere/);
  assert.deepEqual(readdirSync("/run/elsewhere"), []);
});

test("SysV 13: root is given up, on every thread", async (t) => {
  const { pid } = await start_daemon(t);
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const status = readFileSync(`/proc/${pid}/task/${thread}/status`, "utf8");
    assert.match(status, new RegExp(`^Uid:(\\t${USERS.lowport.uid}){4}$`, "m"));
    const capabilities = Number(thread) === pid ? "0000000000000400" : "0000000000000000";
    assert.match(status, new RegExp(`^CapEff:\\t${capabilities}$`, "m"));
  }
});

test("SysV 14 and 15: when the launcher returns the helper serves, every time", async (t) => {
  for (let i = 0; i < 5; i++) {
    const { pid } = await start_daemon(t);
    const { code, stdout } = await lowport(USERS.alice, ["status", "--json"]);
    assert.deepEqual([code, JSON.parse(stdout).pid], [0, pid]);
    await stop(pid);
  }
});

test("SysV 14 and 15: a start that fails gives its code and what is wrong, and leaves no process", async () => {
  const processes = () => readdirSync("/proc").filter((name) => /^\d+$/.test(name) && stat_of(Number(name)) !== undefined).length;
  const before = processes();
  const cases: [() => void, number, RegExp, string[]][] = [
    [() => writeFileSync(CONFIG, "{"), 78, /^\/etc\/lowport\/lowport\.json: \/: is not JSON/m, []],
    [() => rmSync("/var/log/lowport", { recursive: true }), 78, /\/audit\/path/, []],
    [() => mkdirSync(SOCKET, { recursive: true }), 1, /is there already and is no socket/, []],
    [() => undefined, 64, /--ready-fd cannot be given here/, ["--ready-fd", "1"]],
    [() => undefined, 64, /--syslog cannot be given here/, ["--syslog"]],
  ];
  for (const [spoil, code, says, args] of cases) {
    fresh();
    spoil();
    const outcome = await run([...DAEMON, ...args]);
    assert.equal(outcome.code, code, JSON.stringify(outcome));
    assert.match(outcome.stderr, says);
    assert.equal(processes(), before);
    assert.ok(!existsSync(PID_FILE) || stat_of(pid_in_file()) === undefined);
  }
  fresh();
  const bob = ["setpriv", "--reuid=2002", "--regid=2002", "--clear-groups", ...DAEMON];
  assert.equal((await run(bob)).code, 77);
  const dangerous = await run(DAEMON, { NODE_OPTIONS: "--no-warnings" });
  assert.equal(dangerous.code, 78);
  assert.match(dangerous.stderr, /NODE_OPTIONS/);
});

test("new-style 1 and 2: the daemon too reloads on SIGHUP, reopens on SIGUSR1, and ends well on SIGTERM and SIGINT", async (t) => {
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    const { pid } = await start_daemon(t);
    process.kill(pid, "SIGHUP");
    await until("the reload is on record", () => read_audit().some(({ event }) => event === "reload"));
    process.kill(pid, "SIGUSR1");
    process.kill(pid, signal);
    await until("it has ended", () => stat_of(pid) === undefined);
    const last = read_audit().at(-1);
    assert.equal(last?.event, "stop");
    assert.ok(last?.reason?.startsWith(signal), last?.reason);
    verify_chain();
  }
});

test("new-style: without --daemon it stays where it is, says on stderr what it does, and writes no pid file", async (t) => {
  const helper = await start_helper(t);
  const stat = stat_of(helper.pid);
  const own = stat_of(process.pid);
  assert.deepEqual([stat?.parent, stat?.session, stat?.group], [process.pid, own?.session, own?.group]);
  assert.ok(!links_of(helper.pid).some(([fd, link]) => fd === 2 && link === "/dev/null"));
  assert.ok(!existsSync(PID_FILE));
});
