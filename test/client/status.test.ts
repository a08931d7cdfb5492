/** Promise: a pid file is believed only if it holds one number, of a process that exists and is a lowport helper. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import process from "node:process";
import { type TestContext, test } from "node:test";
import { find_helper } from "../../client/status.js";
import { is_helper, read_pid_file } from "../../shared/pid-file.js";
import { needs_root, temp_folder } from "../fixtures.js";

const folder = temp_folder();
const file = join(folder, "lowport.pid");

/** A process that has `word` in its command line. */
function process_with(t: TestContext, word: string): number {
  const child = spawn("/bin/sh", ["-c", "read nothing", word], { stdio: ["pipe", "ignore", "ignore"] });
  t.after(() => child.kill("SIGKILL"));
  return child.pid as number;
}

for (const word of ["/usr/local/lib/lowport/current/dist/helper/main.cjs", "dist/helper/main.cjs", "/usr/local/sbin/lowportd"])
  test(`a process with ${word} in its command line is a helper`, (t) => {
    const pid = process_with(t, word);
    assert.equal(is_helper(pid), true);
    writeFileSync(file, `${pid}\n`);
    assert.deepEqual(read_pid_file(file), { path: file, pid, alive: true });
  });

for (const word of ["/srv/other/main.js", "notlowportd", "/usr/bin/lowportd.bak", "helper/main.cjson"])
  test(`a process with ${word} in its command line is none`, (t) => assert.equal(is_helper(process_with(t, word)), false));

test("a process of another user than the configuration names is none, whatever its command line", {
  skip: needs_root,
}, async (t) => {
  const config = join(folder, "lowport.json");
  const looks = (uid: number, ...words: string[]) => {
    const ids = [`--reuid=${uid}`, "--regid=65534", "--clear-groups"];
    const line = ["sh", "-c", "echo; read nothing", "/usr/local/sbin/lowportd", "run", ...words];
    const child = spawn("setpriv", [...ids, ...line], { stdio: ["pipe", "pipe", "ignore"] });
    t.after(() => child.kill("SIGKILL"));
    return new Promise<number>((resolve) => child.stdout.once("data", () => resolve(child.pid as number)));
  };
  writeFileSync(config, '{ "user": 4711, "rules": [] }', { mode: 0o644 });
  for (const words of [["--config", config], [`--config=${config}`]]) {
    assert.equal(is_helper(await looks(4711, ...words)), true);
    assert.equal(is_helper(await looks(4712, ...words)), false);
    assert.equal(is_helper(await looks(0, ...words)), true, "while it starts");
  }
  writeFileSync(config, '{ "user": "nobody" }');
  assert.equal(is_helper(await looks(65534, "--config", config)), true);
});

test("a process that is gone is no helper", () => {
  const { pid } = spawnSync("/bin/true");
  assert.equal(is_helper(pid), false);
  writeFileSync(file, `${pid}\n`);
  assert.deepEqual(read_pid_file(file), { path: file, pid, alive: false });
});

for (const text of ["", "\n", "0\n", "-1\n", "1 2\n", "12x", " 12\n", "1\n2\n", "99999999999\n", "0x10\n", "1".repeat(5000)])
  test(`a pid file with ${JSON.stringify(text.slice(0, 20))} says nothing`, () => {
    writeFileSync(file, text);
    assert.equal(read_pid_file(file), undefined);
  });

test("a pid file that is a link, a folder or a fifo says nothing", () => {
  writeFileSync(file, `${process.pid}\n`);
  const other = (name: string) => join(folder, name);
  symlinkSync(file, other("link"));
  mkdirSync(other("folder"));
  assert.equal(spawnSync("mkfifo", [other("fifo")]).status, 0);
  for (const name of ["link", "folder", "fifo", "none"]) assert.equal(read_pid_file(other(name)), undefined, name);
});

test("what accepts and never answers is hung", async (t) => {
  const path = join(folder, "silent.sock");
  const server = createServer().listen(path);
  t.after(() => server.close());
  const state = await find_helper(path, 1);
  assert.equal(state.state, "hung");
  assert.match(state.error.message, /did not answer within/);
});

test("what answers in another language is hung too, as far as lowport goes", async (t) => {
  const path = join(folder, "other.sock");
  const server = createServer((connection) => connection.end("220 hello\n")).listen(path);
  t.after(() => server.close());
  const state = await find_helper(path);
  assert.equal(state.state, "hung");
  assert.equal(state.error.code, "EPROTO");
});

test("where there is nothing it is stopped; a file that is no socket is told", async () => {
  const none = await find_helper(join(folder, "none", "lowport.sock"));
  assert.deepEqual([none.state, none.pidFile], ["stopped", undefined]);
  const path = join(folder, "file.sock");
  writeFileSync(path, "");
  const state = await find_helper(path);
  assert.equal(state.state, "stopped");
  assert.match(state.error.message, /is no socket; move it away/);
});
