/**
 * Promise: text for people has colour on a terminal and nowhere else, the right plurals, names beside uids and ages; and nothing
 * that somebody else wrote reaches the terminal as more than text.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import * as fc from "fast-check";
import { lease_table } from "../../client/command/list.js";
import { count, duration, printable, table, to_json, wants_colour } from "../../client/command/terminal.js";
import { Users } from "../../client/command/users.js";
import type { LeaseEntry } from "../../shared/methods.js";
import { keep_alive } from "../../shared/poll.js";
import { DIST, temp_folder } from "../fixtures.js";
import { make_lines } from "./audit-log.js";
import { granted, start_fake } from "./fake-helper.js";

const folder = temp_folder();
const CLI = join(DIST, "client/cli.js");
const plain = (_: unknown, text: string) => text;

test("colour: FORCE_COLOR decides, then NO_COLOR and TERM, then whether it is a terminal", () => {
  for (const [is_terminal, env, wanted] of [
    [true, {}, true],
    [true, { TERM: "xterm" }, true],
    [false, {}, false],
    [true, { TERM: "dumb" }, false],
    [true, { NO_COLOR: "1" }, false],
    [true, { NO_COLOR: "" }, true],
    [false, { FORCE_COLOR: "1" }, true],
    [false, { FORCE_COLOR: "" }, true],
    [true, { FORCE_COLOR: "0" }, false],
    [true, { FORCE_COLOR: "false" }, false],
    [true, { FORCE_COLOR: "1", NO_COLOR: "1", TERM: "dumb" }, true],
  ] as const)
    assert.equal(wants_colour(is_terminal, env), wanted, JSON.stringify([is_terminal, env]));
});

test("the command: coloured on a terminal, plain where it is piped", () => {
  const log = join(folder, "audit.log");
  writeFileSync(log, make_lines(["one"]).join("\n").concat("\n"));
  const run = (env: Record<string, string>, terminal: boolean, ...args: string[]) => {
    const words = [process.execPath, CLI, "audit", "verify", log, ...args];
    const command = terminal ? ["script", "-qec", words.join(" "), "/dev/null"] : words;
    const { stdout, status } = spawnSync(command[0] as string, command.slice(1), {
      encoding: "utf8",
      env: { PATH: process.env["PATH"], TERM: "xterm", ...env },
      stdio: ["ignore", "pipe", "inherit"],
    });
    assert.equal(status, 0, stdout);
    return stdout;
  };
  const green = "\u001b[32mok\u001b[39m: 1 line, records 1 to 1, ";
  assert.ok(run({}, true).startsWith(green));
  assert.ok(run({ FORCE_COLOR: "1" }, false).startsWith(green));
  for (const text of [run({}, false), run({ NO_COLOR: "1" }, true), run({ TERM: "dumb" }, true), run({ FORCE_COLOR: "0" }, true)])
    assert.ok(text.startsWith("ok: 1 line, "), JSON.stringify(text));
  assert.equal(JSON.parse(run({}, true, "--json")).lines, 1);
});

const INVISIBLE = "\u0000\u0007\u001b\r\n\t\u007f\u009b\u200b\u200e\u2028\u202e\u2066\ufeff";

test("text of others: no control, no change of direction, nothing invisible; what can be read stays", () => {
  assert.equal(printable("port 80 of röck dots, 日本 😀"), "port 80 of röck dots, 日本 😀");
  assert.equal(printable("\u001b[2J\u009b1m\n"), "\\u{1b}[2J\\u{9b}1m\\u{a}");
  for (const character of INVISIBLE) assert.match(printable(`a${character}b`), /^a\\u\{[0-9a-f]+\}b$/);
  fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => !/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(printable(text))));
});

test("JSON: the same data, and nothing in it that a terminal acts on", () => {
  assert.equal(to_json({ a: "\u009b\u{e0001}" }), '{"a":"\\u009b\\udb40\\udc01"}');
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      const json = to_json({ [text]: [text] });
      assert.deepEqual(JSON.parse(json), { [text]: [text] });
      assert.doesNotMatch(json, /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u);
    }),
  );
});

test("plurals and ages", () => {
  assert.deepEqual(
    [0, 1, 2].map((number) => count(number, "connection")),
    ["0 connections", "1 connection", "2 connections"],
  );
  for (const [seconds, text] of [
    [-5, "0 s"],
    [0.9, "0 s"],
    [59, "59 s"],
    [60, "1 min"],
    [3599, "59 min 59 s"],
    [3605, "1 h"],
    [90_061, "1 d 1 h"],
    [8_640_000, "100 d"],
  ] as const)
    assert.equal(duration(seconds), text);
});

test("names of users: from a file like /etc/passwd, the first entry of each, numbers for all others", () => {
  const file = join(folder, "passwd");
  const lines = ["root:x:0:0::/root:/bin/sh", "toor:x:0:0::/root:/bin/sh", "www-data:x:33:33::/var/www:/bin/false"];
  writeFileSync(
    file,
    [...lines, "evil\u001b:x:66:66:::", "# comment", "", "+@nis", "bad:x:-1:0:::", "www-data:x:34:34:::"].join("\n"),
  );
  const users = new Users(file);
  assert.deepEqual(
    [0, 33, 34, 66, 4242].map((uid) => users.describe(uid)),
    ["0 (root)", "33 (www-data)", "34 (www-data)", "66 (evil\\u{1b})", "4242"],
  );
  assert.deepEqual(
    [users.uid_of("toor"), users.uid_of("www-data"), users.uid_of("bad"), users.uid_of("nobody")],
    [0, 33, undefined, undefined],
  );
  assert.equal(new Users(join(folder, "none")).describe(0), "0");
});

test("a table is as wide as its cells, and a cell cannot break out of it", () => {
  assert.equal(
    table(
      ["A", "LONG"],
      [
        ["wide cell", "1"],
        ["x", "\u001b\n"],
      ],
      plain,
    ),
    "A          LONG\nwide cell  1\nx          \\u{1b}\\u{a}",
  );
  const lease: LeaseEntry = {
    lease: "0123456789abcdef",
    uid: 0,
    protocol: "udp",
    address: "10.0.0.1",
    port: 53,
    state: "held",
    label: "a\u001bb",
    hold: 5,
    since: "2026-01-02T03:04:05.678Z",
  };
  const rows = lease_table([lease], plain, new Users(join(folder, "none")), Date.parse(lease.since) + 7_265_000).split("\n");
  assert.deepEqual(rows[0]?.split(/ {2,}/), ["LEASE", "UID", "PROTO", "ADDRESS", "PORT", "STATE", "HOLD", "AGE", "LABEL"]);
  assert.deepEqual(rows[1]?.split(/ {2,}/), [lease.lease, "0", "udp", "10.0.0.1", "53", "held", "5 s", "2 h 1 min", "a\\u{1b}b"]);
});

test("what a helper says is shown and not obeyed, as text, error and JSON", async (t) => {
  t.after(() => keep_alive(false));
  const helper = await start_fake(t, (guest, { id, method }) => {
    if (method === "check") guest.answer(id, { allowed: false, rule: null, reason: "no\u001b[2J\u202e" });
    else if (method === "revoke")
      guest.say(
        `${JSON.stringify({ jsonrpc: "2.0", id, error: { code: 6, message: "m", data: { code: "ENOENT", reason: "n\u009bo" } } })}\n`,
      );
    else guest.answer(id, granted(80));
  });
  const run = async (...args: string[]) => {
    const child = spawn(process.execPath, [CLI, ...args, "--socket", helper.path], { stdio: ["ignore", "pipe", "pipe"] });
    let said = "";
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text: string) => (said += text));
    await new Promise((closed) => child.once("close", closed));
    return said;
  };
  assert.equal(await run("check", "tcp", "80"), "not allowed: no\\u{1b}[2J\\u{202e}\n");
  assert.equal(await run("check", "tcp", "80", "--json"), '{"allowed":false,"rule":null,"reason":"no\\u001b[2J\\u202e"}\n');
  assert.equal(await run("revoke", "x"), "lowport: revoke ENOENT: n\\u{9b}o\n");
});
