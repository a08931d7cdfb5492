/** The control socket, made by root: right from its first instant, stale ones replaced, all else refused untouched. */
import assert from "node:assert/strict";
import { chmodSync, chownSync, lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { make_control_socket } from "../../helper/control-socket.js";
import { native } from "../../shared/native.js";
import { DIST, needs_root, run_module, temp_folder } from "../fixtures.js";

const options = { skip: needs_root };
const new_path = () => join(temp_folder(), "run", "lowport.sock");

/** Makes it in a child, which then ends: with `keep` the child waits until it is killed. */
const make_in_child = (path: string) =>
  run_module(`import { make_control_socket } from "${DIST}helper/control-socket.js";
    try { console.log(make_control_socket(${JSON.stringify(path)}, 65534, 0o660) >= 0); } catch (error) { console.log(error.message); }`)
    .stdout;

test("owner, group and mode, whatever the umask; the folder is root's", options, () => {
  const path = new_path();
  const mask = process.umask(0o000);
  const fd = make_control_socket(path, 1234, 0o660);
  assert.equal(process.umask(mask), 0, "the umask is put back");
  const { uid, gid, mode } = lstatSync(path);
  assert.deepEqual([uid, gid, mode & 0o7777], [0, 1234, 0o660]);
  assert.equal(lstatSync(join(path, "..")).mode & 0o7777, 0o755);
  assert.ok(native().openUnix(path, 0) >= 0, "it listens");
  assert.ok(native().acceptUnix(fd) >= 0);
  assert.deepEqual(readdirSync(join(path, "..")).toSorted(), ["lowport.sock", "lowport.sock.lock"]);
});

test("a live helper's socket is never replaced", options, () => {
  const path = new_path();
  make_control_socket(path, 0, 0o600);
  const { ino } = lstatSync(path);
  assert.match(make_in_child(path), /another helper is serving on this socket/);
  assert.equal(lstatSync(path).ino, ino);
});

test("a stale one is replaced, with what a helper that died midway left", options, () => {
  const path = new_path();
  assert.equal(make_in_child(path), "true");
  const { ino } = lstatSync(path);
  writeFileSync(`${path}.new`, "");
  assert.equal(make_in_child(path), "true");
  assert.notEqual(lstatSync(path).ino, ino);
  assert.deepEqual(readdirSync(join(path, "..")).toSorted(), ["lowport.sock", "lowport.sock.lock"]);
});

test("another program's socket is left to it", options, () => {
  const path = new_path();
  mkdirSync(join(path, ".."), { mode: 0o755 });
  native().openUnix(path, 5);
  const { ino } = lstatSync(path);
  assert.match(make_in_child(path), /another program is listening there/);
  assert.equal(lstatSync(path).ino, ino);
});

for (const [what, make] of [
  ["a file", (path) => writeFileSync(path, "precious")],
  ["a folder", (path) => mkdirSync(path)],
  ["a symbolic link", (path) => symlinkSync("/etc/passwd", path)],
] as const satisfies readonly (readonly [string, (path: string) => void])[])
  test(`${what} at the path is refused untouched`, options, () => {
    const path = new_path();
    mkdirSync(join(path, ".."), { mode: 0o755 });
    make(path);
    const before = lstatSync(path);
    assert.match(make_in_child(path), /is there already and is no socket/);
    assert.deepEqual([lstatSync(path).ino, lstatSync(path).mode], [before.ino, before.mode]);
    if (what === "a file") assert.equal(readFileSync(path, "utf8"), "precious");
  });

test("a folder that is not root's alone is refused", options, () => {
  for (const spoil of [(folder: string) => chmodSync(folder, 0o777), (folder: string) => chownSync(folder, 65534, 0)]) {
    const path = new_path();
    mkdirSync(join(path, ".."), { mode: 0o755 });
    spoil(join(path, ".."));
    assert.throws(() => make_control_socket(path, 0, 0o600), /can be written by others|is owned by uid 65534/);
    assert.deepEqual(readdirSync(join(path, "..")), []);
  }
});

test("the lock is not taken through a link", options, () => {
  const path = new_path();
  mkdirSync(join(path, ".."), { mode: 0o755 });
  symlinkSync("/etc/passwd", `${path}.lock`);
  assert.throws(() => make_control_socket(path, 0, 0o600), { code: "ELOOP" });
});
