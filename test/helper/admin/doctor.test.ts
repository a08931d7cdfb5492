/** What each check of the doctor's says of what is right, and of each thing that can be wrong with it. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  rmSync,
  type statfsSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { describe } from "../../../helper/admin/doctor.js";
import { check_answer, check_exec, check_pid_file, check_socket } from "../../../helper/admin/doctor-process.js";
import { check_drift, check_loads, check_loose_program, check_release } from "../../../helper/admin/doctor-program.js";
import { check_audit_log, check_chain, check_clock, check_disk, files_of_log } from "../../../helper/admin/doctor-record.js";
import { check_units } from "../../../helper/admin/doctor-units.js";
import { ok, type Result, run_check, unknown, wrong } from "../../../helper/admin/findings.js";
import { make_lines } from "../../client/audit-log.js";
import { AS_NOBODY, DIST, needs_root, REPOSITORY, run_module, temp_folder } from "../../fixtures.js";

const me = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

/** Asserts what was found: the pattern of each detail; each has a cure. */
function found(results: readonly Result[], ...patterns: RegExp[]): void {
  assert.deepEqual(
    results.map(({ state }) => state),
    patterns.map(() => "wrong"),
    JSON.stringify(results),
  );
  for (const [i, pattern] of patterns.entries()) {
    assert.match(results[i]?.detail ?? "", pattern);
    assert.notEqual(results[i]?.cure, "");
  }
}
const all_ok = (results: readonly Result[]) =>
  assert.deepEqual(
    results.map(({ state }) => state),
    ["ok"],
    JSON.stringify(results),
  );

/** A small release with its manifest. */
function make_release(): string {
  const folder = temp_folder();
  chmodSync(folder, 0o755);
  mkdirSync(join(folder, "dist"), { mode: 0o755 });
  const files = ["node", "dist/main.js"].map((path) => {
    writeFileSync(join(folder, path), path, { mode: 0o644 });
    chmodSync(join(folder, path), 0o644);
    return { path, mode: "0644", sha256: sha256(path) };
  });
  writeFileSync(join(folder, "manifest.json"), JSON.stringify({ version: "1", files }));
  return folder;
}

test("program: a release as it was installed", () => all_ok(check_release(make_release(), me)));

const RELEASES: [string, (folder: string) => void, RegExp[]][] = [
  ["another content", (folder) => writeFileSync(join(folder, "dist/main.js"), "evil"), [/dist\/main\.js has another content/]],
  ["another mode", (folder) => chmodSync(join(folder, "node"), 0o4755), [/node has mode 4755 and not 0644/]],
  ["a file that is missing", (folder) => rmSync(join(folder, "node")), [/node is missing/]],
  [
    "a link in the place of a file",
    (folder) => (rmSync(join(folder, "node")), symlinkSync("/bin/sh", join(folder, "node"))),
    [/node is no regular file any more/],
  ],
  [
    "a file that nobody installed",
    (folder) => writeFileSync(join(folder, "dist/new.js"), ""),
    [/dist\/new\.js was not installed/],
  ],
  [
    "a folder that others can write",
    (folder) => chmodSync(join(folder, "dist"), 0o777),
    [/dist belongs to .* others than root can write/],
  ],
];
for (const [what, spoil, patterns] of RELEASES)
  test(`program: ${what}`, () => {
    const folder = make_release();
    spoil(folder);
    found(check_release(folder, me), ...patterns);
  });

test("program: another's files", { skip: needs_root }, () => {
  const folder = make_release();
  chownSync(join(folder, "node"), 65534, 0);
  found(check_release(folder, me), /node belongs to 65534:0 and not to 0:0/);
  chownSync(folder, 65534, 0);
  found(check_release(folder, me), /owned by uid 65534 and not by root/);
});

test("program: one that is not installed must be root's alone all the same", { skip: needs_root }, () => {
  const file = join(temp_folder(), "main.js");
  writeFileSync(file, "");
  all_ok(check_loose_program([file]));
  chmodSync(file, 0o666);
  found(check_loose_program([file]), /main\.js can be written by others than root .*can change what root runs/);
});

test("node, posix and addon: each says why it cannot be loaded", () => {
  const good = check_loads(process.execPath, REPOSITORY);
  assert.deepEqual([good.node.state, good.posix.state, good.addon.state], ["ok", "ok", "ok"], JSON.stringify(good));
  const program = temp_folder();
  cpSync(join(DIST, "helper"), join(program, "dist/helper"), { recursive: true });
  cpSync(join(DIST, "shared"), join(program, "dist/shared"), { recursive: true });
  rmSync(join(program, "dist/shared/native/lowport.node"));
  const bare = check_loads(process.execPath, program);
  found([bare.posix, bare.addon], /posix package cannot be loaded/, /its addon cannot be loaded/);
  assert.equal(bare.node.state, "ok");
  const none = check_loads("/bin/false", REPOSITORY);
  found([none.node], /\/bin\/false does not run: exit 1/);
  assert.deepEqual([none.posix.state, none.addon.state], ["unknown", "unknown"]);
});

/** A file and a link as install records them. */
function make_installed() {
  const [path, link] = [join(temp_folder(), "lowport.service"), join(temp_folder(), "lowportd")];
  writeFileSync(path, "unit");
  chmodSync(path, 0o644);
  symlinkSync("../lib/lowport/current/bin/lowportd", link);
  const links = [{ path: link, to: "../lib/lowport/current/bin/lowportd" }];
  return { path, link, record: { files: [{ path, mode: "0644", ...me, sha256: sha256("unit") }], links } };
}

test("node: its version, and that the system has a newer one", () => {
  const { version } = process;
  const at = (other: string) => check_loads(process.execPath, REPOSITORY, [{ path: "/usr/bin/node", version: other }]).node;
  assert.deepEqual(at(version), ok(`${process.execPath} is Node ${version}`));
  assert.equal(at("v9.99.99").state, "ok");
  const newer = at("v999.0.1");
  assert.equal(newer.state, "unknown");
  assert.match(newer.detail, new RegExp(`is Node ${version}, and /usr/bin/node is v999\\.0\\.1`));
  assert.match(newer.cure, /sudo \/usr\/bin\/node .*main\.cjs install/);
  const more = check_loads(process.execPath, REPOSITORY, [
    { path: "/a", version: "v999.2.0" },
    { path: "/b", version: "v999.10.0" },
  ]);
  assert.match(more.node.detail, /\/b is v999\.10\.0/);
});

const UNITS = ["lowport.service", "lowport.socket"].map((unit) => `/etc/systemd/system/${unit}`);
/** What systemd says of the units, but for these. */
const shows =
  (changes: Record<string, string> = {}) =>
  async (unit: string) =>
    new Map(Object.entries({ FragmentPath: `/etc/systemd/system/${unit}`, DropInPaths: "", NeedDaemonReload: "no", ...changes }));

test("drift: what systemd runs besides what install wrote", { skip: needs_root }, async () => {
  const record = { init: "systemd", files: UNITS.map((path) => ({ path, mode: "0644", uid: 0, gid: 0, sha256: "" })) };
  const distribution = "/usr/lib/systemd/system/service.d/10-timeout-abort.conf";
  assert.deepEqual(await check_units(record, shows()), []);
  assert.deepEqual(await check_units(record, shows({ DropInPaths: `${distribution} ${UNITS[0]}` })), []);
  assert.deepEqual(await check_units({ ...record, init: "sysv" }, shows({ FragmentPath: "" })), []);
  const [own, other] = [join(temp_folder(), "own.conf"), join(temp_folder(), "other.conf")];
  for (const path of [own, other]) writeFileSync(path, "[Service]\nNoNewPrivileges=no\n");
  chmodSync(other, 0o666);
  const results = await check_units(record, shows({ DropInPaths: `${own} ${other}` }));
  assert.deepEqual(
    results.map(({ state }) => state),
    ["unknown", "wrong", "unknown", "wrong"],
  );
  assert.match(results[0]?.detail ?? "", new RegExp(`lowport\\.service is changed by ${own}, which install did not write`));
  assert.match(results[1]?.detail ?? "", /is changed by .*other\.conf, and .* can be written by others than root/);
  found(await check_units(record, shows({ FragmentPath: "/run/x" })), /takes lowport\.service from \/run\/x/, /socket from/);
  found(await check_units(record, shows({ NeedDaemonReload: "yes" })), /has not read lowport\.service/, /lowport\.socket/);
});

test("drift: files and links as they were installed, and not", () => {
  const { path, link, record } = make_installed();
  all_ok(check_drift(record));
  writeFileSync(path, "unit with a root shell");
  rmSync(link);
  symlinkSync("/tmp/evil", link);
  found(check_drift(record), /lowport\.service has another content/, /lowportd leads to \/tmp\/evil, and not to/);
  rmSync(path);
  rmSync(link);
  writeFileSync(link, "");
  found(check_drift(record), /lowport\.service is missing/, /lowportd is no link any more/);
});

test("answer: running, another version, out of reach, and each other state", () => {
  const running = { state: "running", pid: 1, version: "1.0.0" };
  all_ok(check_answer(running, undefined, "1.0.0"));
  found(check_answer(running, "openrc", "1.1.0"), /version 1\.0\.0 runs, and 1\.1\.0 is installed/);
  for (const state of ["stopped", "stale", "hung"])
    found(check_answer({ state, error: { code: "X", message: "is not there" } }), /is not there/);
  assert.equal(check_answer({ state: "unreachable", error: { code: "EACCES", message: "join" } })[0]?.state, "unknown");
  const stopped = { state: "stopped", error: { code: "X", message: "is not there" } };
  assert.match(check_answer(stopped, "systemd")[0]?.cure ?? "", /^sudo systemctl start .*check-config.*journalctl -u lowport/);
  assert.match(check_answer(stopped)[0]?.cure ?? "", /^start it; .*check-config/);
});

test("pid-file and socket: the cure is the one of the init", () => {
  const gone = spawnSync("/bin/true").pid;
  const folder = temp_folder();
  const [path, pid_file] = [join(folder, "lowport.sock"), join(folder, "lowport.pid")];
  writeFileSync(pid_file, `${gone}\n`, { mode: 0o644 });
  const [left] = check_pid_file(path, undefined);
  assert.match(left?.detail ?? "", new RegExp(`is of process ${gone}, which has ended; the next helper writes it anew`));
  assert.match(
    check_pid_file(path, 1, "sysv")
      .map(({ cure }) => cure)
      .join(),
    /sudo service lowport restart/,
  );
  for (const [init, cure] of [
    ["systemd", "sudo systemctl restart lowport.socket lowport.service"],
    ["openrc", "sudo rc-service lowport restart"],
    [undefined, "restart it"],
  ] as const)
    assert.deepEqual(check_socket({ path: join(folder, "none/lowport.sock"), gid: 0, mode: 0o660 }, init), [
      wrong(`${folder}/none is missing`, cure),
    ]);
});

/** A folder with a log of four lines, over two files. */
function make_log() {
  const lines = make_lines(["one", "two", "three", "four"]);
  const folder = temp_folder();
  chmodSync(folder, 0o750);
  const path = join(folder, "audit.log");
  writeFileSync(`${path}.1`, `${lines.slice(0, 2).join("\n")}\n`);
  writeFileSync(path, `${lines.slice(2).join("\n")}\n`, { mode: 0o640 });
  return { folder, path, last: Date.parse(JSON.parse(lines[3] as string).time) };
}
const user = { name: "lowport", ...me };

test("audit-log: owner and mode of the file and of its folder", () => {
  const { folder, path } = make_log();
  all_ok(check_audit_log(path, user));
  chmodSync(path, 0o666);
  chmodSync(folder, 0o777);
  found(check_audit_log(path, user), /has mode 0777: others can replace the log/, /audit\.log has mode 0666/);
  found(check_audit_log(path, { ...user, uid: 4711 }).slice(0, 1), /belongs to uid \d+ and not to lowport/);
  chmodSync(folder, 0o750);
  rmSync(path);
  found(check_audit_log(path, user), /audit\.log is missing/);
  all_ok(check_audit_log(path, user, false)); // there is audit.log.1
  assert.deepEqual(files_of_log(path), [`${path}.1`]);
  rmSync(`${path}.1`);
  found(check_audit_log(path, user, false), /audit\.log is missing/);
  found(check_audit_log(join(folder, "none/audit.log"), user), /\/none is missing/);
  symlinkSync("/etc/passwd", path);
  found(check_audit_log(path, user), /is no regular file/);
});

test("audit-chain: the files that are not compressed, oldest first; damage is told by file and line", () => {
  const { folder, path } = make_log();
  for (const name of ["audit.log.2.gz", "audit.log.old", "audit.logs"]) writeFileSync(join(folder, name), "");
  writeFileSync(`${path}-20200101`, "");
  assert.deepEqual(files_of_log(path), [`${path}.1`, path]);
  all_ok(check_chain(path, (files) => ({ lines: files.length, damage: [] })));
  const damage = [{ file: path, line: 2, kind: "edited", reason: "the line does not fit its own hash" }];
  found(
    check_chain(path, () => ({ lines: 4, damage })),
    /audit\.log:2: edited: the line does not fit/,
  );
  rmSync(path);
  assert.equal(spawnSync("mkfifo", [path]).status, 0);
  const never = () => assert.fail("it would wait for ever, or read what is root's");
  assert.equal(check_chain(path, never)[0]?.state, "unknown");
  rmSync(path);
  symlinkSync("/etc/passwd", path);
  assert.equal(check_chain(path, never)[0]?.state, "unknown");
  rmSync(`${path}.1`);
  symlinkSync("/etc/passwd", `${path}.1`);
  assert.equal(spawnSync("mkfifo", [`${path}.2`]).status, 0);
  rmSync(path);
  assert.equal(check_chain(path, never)[0]?.state, "unknown");
  assert.equal(check_chain(join(folder, "none/audit.log"), never)[0]?.state, "unknown");
  writeFileSync(path, "");
  assert.deepEqual(files_of_log(path), [path], "neither the link nor the fifo");
  rmSync(path);
  writeFileSync(path, "");
  let runs = 0;
  all_ok(check_chain(path, () => ({ lines: 4, damage: runs++ === 0 ? damage : [] })));
});

test("clock: not before the installation, and not before the last record", () => {
  const { path, last } = make_log();
  const installed = join(temp_folder(), "manifest.json");
  writeFileSync(installed, "");
  utimesSync(installed, last / 1000, last / 1000);
  all_ok(check_clock(installed, path, last + 1000));
  found(check_clock(installed, path, last - 3_600_000), /before this lowport was installed/);
  utimesSync(installed, 0, 0);
  found(check_clock(installed, path, last - 3_600_000), /the last audit record is of/);
  all_ok(check_clock(installed, `${path}.none`, last));
});

test("exec: what Yama leaves of it is told, and is no fault", () => {
  const file = join(temp_folder(), "ptrace_scope");
  all_ok(check_exec(file));
  for (const [scope, pattern] of [
    ["0", /^Yama does not restrict lowport exec$/],
    ["1", /ptrace_scope is 1, so lowport exec serves the program itself and not its children; exec --listen/],
    ["2", /ptrace_scope is 2, so lowport exec serves no program;/],
  ] as const) {
    writeFileSync(file, `${scope}\n`);
    const [result, ...more] = check_exec(file);
    assert.deepEqual([result?.state, result?.cure, more], ["ok", "", []]);
    assert.match(result?.detail ?? "", pattern);
  }
});

test("disk: bytes and inodes", () => {
  const plenty = { bavail: 1 << 20, bsize: 4096, files: 1000, ffree: 1000 };
  const statfs = (change: object) => (() => ({ ...plenty, ...change })) as unknown as typeof statfsSync;
  all_ok(check_disk("/log", "/run", statfs({})));
  all_ok(check_disk("/log", "/run", statfs({ files: 0, ffree: 0 })));
  found(check_disk("/log", "/run", statfs({ bavail: 10 })), /\/log has 0 MiB free/, /\/run has 0 MiB free/);
  found(check_disk("/log", "/run", statfs({ ffree: 50 })), /\/log has 50 inodes free/);
});

test("what a user may not see is unknown, to root it is wrong; any other failure is wrong", async () => {
  const fail = (code: string) => () => {
    throw Object.assign(new Error("no"), { code });
  };
  assert.deepEqual(await run_check("x", fail("EACCES"), false), [
    { check: "x", state: "unknown", detail: "needs root: no", cure: "sudo lowportd doctor" },
  ]);
  const missing = Object.assign(new Error("ENOENT: no such file or directory, lstat '/x'"), { code: "ENOENT", path: "/x" });
  const throws = (error: Error) => () => {
    throw error;
  };
  assert.equal((await run_check("x", throws(missing)))[0]?.detail, "/x is missing");
  const closed = Object.assign(new Error("EACCES: permission denied, open '/x'"), { code: "EACCES", path: "/x" });
  assert.equal((await run_check("x", throws(closed), false))[0]?.detail, "needs root: this user may not look at /x");
  for (const [code, is_admin] of [
    ["EACCES", true],
    ["EIO", false],
  ] as const)
    assert.equal((await run_check("x", fail(code), is_admin))[0]?.state, "wrong");
});

test("a program of the system can be asked without root", () => {
  const programs = JSON.stringify(new URL("../../../helper/admin/programs.js", import.meta.url).href);
  const source = `import { run_program } from ${programs}; console.log(JSON.stringify(await run_program("echo", ["hello"])));`;
  const { stdout, stderr } = run_module(source, AS_NOBODY);
  assert.deepEqual([stdout, stderr], ['{"code":0,"output":"hello"}', ""]);
});

test("a check that finds very much tells the first, and how many more there are", async () => {
  const findings = await run_check("x", () => Array.from({ length: 30 }, (_, i) => wrong(`${i}`, "mend it")));
  assert.deepEqual([findings.length, findings.at(-1)?.detail], [11, "and 20 more of these"]);
});

test("a finding is one line, with its cure", () => {
  assert.equal(describe({ check: "socket", ...ok("fine") }), "ok       socket       fine");
  assert.equal(describe({ check: "socket", ...wrong("bad", "mend it") }), "WRONG    socket       bad. Cure: mend it");
  assert.equal(describe({ check: "audit-chain", ...unknown("dark") }), "unknown  audit-chain  dark");
});
