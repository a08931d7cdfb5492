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
import { check_answer } from "../../../helper/admin/doctor-process.js";
import { check_drift, check_loads, check_loose_program, check_release } from "../../../helper/admin/doctor-program.js";
import { check_audit_log, check_chain, check_clock, check_disk, files_of_log } from "../../../helper/admin/doctor-record.js";
import { ok, type Result, run_check, unknown, wrong } from "../../../helper/admin/findings.js";
import { make_lines } from "../../client/audit-log.js";
import { DIST, needs_root, REPOSITORY, temp_folder } from "../../fixtures.js";

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
  all_ok(check_answer(running, "1.0.0"));
  found(check_answer(running, "1.1.0"), /version 1\.0\.0 runs, and 1\.1\.0 is installed/);
  for (const state of ["stopped", "stale", "hung"])
    found(check_answer({ state, error: { code: "X", message: "is not there" } }), /is not there/);
  assert.equal(check_answer({ state: "unreachable", error: { code: "EACCES", message: "join" } })[0]?.state, "unknown");
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
  assert.equal(check_chain(path, () => assert.fail("it would wait for ever"))[0]?.state, "unknown");
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
  for (const [code, is_admin] of [
    ["EACCES", true],
    ["EIO", false],
  ] as const)
    assert.equal((await run_check("x", fail(code), is_admin))[0]?.state, "wrong");
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
