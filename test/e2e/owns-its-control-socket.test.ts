/**
 * Promise: the control socket is root's, with the group and mode that were asked for; a live one is never replaced, a
 * stale one is, and anything else at its path is refused and left untouched.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, lstatSync, mkdirSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { DEFAULT_SOCKET } from "../../shared/protocol.js";
import { enter_box, USERS } from "./box.js";
import { run_helper, start_helper } from "./helper-process.js";
import { Peer } from "./peer.js";

await enter_box(import.meta.url);

const FOLDER = "/run/lowport";

test("owner, group and mode are those of the configuration, whatever the umask", async (t) => {
  for (const [config, gid, mode] of [
    [{}, 990, 0o660],
    [{ socket: { group: "web", mode: "0600" } }, 3000, 0o600],
    [{ socket: { group: "adm", mode: "0666" } }, 4, 0o666],
  ] as const) {
    const helper = await start_helper(t, { config, wrapper: ["sh", "-c", 'umask 027; exec "$@"', "sh"] });
    const stats = statSync(DEFAULT_SOCKET);
    assert.deepEqual([stats.uid, stats.gid, stats.mode & 0o7777], [0, gid, mode]);
    assert.deepEqual([statSync(FOLDER).uid, statSync(FOLDER).mode & 0o7777], [0, 0o755]);
    await helper.stop();
  }
  await start_helper(t, { config: { socket: { mode: "0666" } } });
  await (await (await Peer.start(t, USERS.mallory)).connect()).ask("status");
});

test("a second helper refuses, and the first goes on at the same socket", async (t) => {
  const helper = await start_helper(t);
  const wire = await (await Peer.start(t, USERS.alice)).connect();
  const { ino } = statSync(DEFAULT_SOCKET);
  for (let i = 0; i < 2; i++) {
    const { code, stderr } = await run_helper(t);
    assert.equal(code, 1);
    assert.match(stderr, /another helper is serving on this socket/);
  }
  assert.equal(statSync(DEFAULT_SOCKET).ino, ino);
  await wire.bind({ port: 80 });
  await (await wire.peer.connect()).ask("status");
  assert.ok(helper.alive);
});

test("of several helpers that start at once one serves and the others refuse", async (t) => {
  const first = await start_helper(t);
  await first.stop("SIGKILL");
  const starts = await Promise.allSettled(Array.from({ length: 4 }, () => start_helper(t, { keep: true })));
  assert.equal(starts.filter(({ status }) => status === "fulfilled").length, 1);
  await (await (await Peer.start(t, USERS.alice)).connect()).ask("status");
});

test("the socket of a helper that was killed is replaced, and so is what it left half made", async (t) => {
  const helper = await start_helper(t);
  const { ino } = statSync(DEFAULT_SOCKET);
  await helper.stop("SIGKILL");
  assert.equal(statSync(DEFAULT_SOCKET).ino, ino, "it is stale");
  writeFileSync(`${DEFAULT_SOCKET}.new`, "");
  await start_helper(t, { keep: true });
  await (await (await Peer.start(t, USERS.alice)).connect()).ask("status");
});

test("anything else at that path is refused and left as it is", async (t) => {
  await (await start_helper(t)).stop();
  const root = await Peer.start(t, USERS.root);
  writeFileSync("/run/precious", "precious");
  const things: [string, () => unknown][] = [
    ["a file", () => writeFileSync(DEFAULT_SOCKET, "precious")],
    ["a fifo", () => spawnSync("mkfifo", [DEFAULT_SOCKET])],
    ["a folder", () => mkdirSync(DEFAULT_SOCKET)],
    ["a link to a file", () => symlinkSync("/run/precious", DEFAULT_SOCKET)],
    ["a link to nothing", () => symlinkSync("/run/nosuch", DEFAULT_SOCKET)],
    [
      "another program's socket",
      () =>
        root.do("attempt", {
          code: `s = socket.socket(socket.AF_UNIX); s.bind("${DEFAULT_SOCKET}"); s.listen(1); socks["other"] = s`,
        }),
    ],
  ];
  for (const [name, make] of things) {
    rmSync(DEFAULT_SOCKET, { recursive: true, force: true });
    await make();
    const before = lstatSync(DEFAULT_SOCKET);
    const { code, stderr } = await run_helper(t);
    assert.equal(code, 1, `${name}: ${stderr}`);
    assert.ok(stderr.startsWith(`lowportd: ${DEFAULT_SOCKET}: `), stderr);
    const after = lstatSync(DEFAULT_SOCKET);
    assert.deepEqual(
      [after.ino, after.mode, after.uid, after.ctimeMs],
      [before.ino, before.mode, before.uid, before.ctimeMs],
      name,
    );
  }
});

test("a folder that another could write is refused", async (t) => {
  await (await start_helper(t)).stop();
  for (const [name, spoil] of [
    ["mode 0777", () => chmodSync(FOLDER, 0o777)],
    ["mode 0775", () => chmodSync(FOLDER, 0o775)],
    ["the helper's user's", () => chownSync(FOLDER, USERS.lowport.uid, 0)],
    ["a link", () => (rmSync(FOLDER, { recursive: true }), mkdirSync("/run/other"), symlinkSync("/run/other", FOLDER))],
  ] as const) {
    chmodSync(FOLDER, 0o755);
    chownSync(FOLDER, 0, 0);
    spoil();
    const { code, stderr } = await run_helper(t);
    assert.equal(code, 1, `${name}: ${stderr}`);
    assert.match(stderr, /^lowportd: \/run\/lowport/, name);
  }
});
