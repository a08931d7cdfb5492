/** Promise: the `lowport` command's usage: help, version, and a usage error (64) for what it does not know, as text and JSON. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { EXIT, VERSION } from "../../shared/protocol.js";
import { make_line, make_lines } from "./audit-log.js";

const CLI = fileURLToPath(new URL("../../client/cli.js", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "lowport-cli-"));
after(() => rmSync(folder, { recursive: true }));

function run(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, ...args], {
    encoding: "utf8",
    env: { LOWPORT_SOCKET: join(folder, "none") },
  });
  return { status, stdout, stderr };
}

/** Runs it as text and as JSON; both must end with this code. @returns the JSON, and the text */
function both_ways(code: number, ...args: string[]) {
  const text = run(...args);
  const again = run(...args, "--json");
  assert.deepEqual([text.status, again.status], [code, code], JSON.stringify([text, again]));
  assert.match(again.stdout, /^[^\n]+\n$/);
  return { json: JSON.parse(again.stdout), text };
}

test("--version is that of package.json", () => {
  const { version } = JSON.parse(readFileSync(new URL("../../../package.json", import.meta.url), "utf8"));
  assert.equal(VERSION, version);
  assert.deepEqual(run("--version"), { status: 0, stdout: `lowport ${version}\n`, stderr: "" });
});

test("--help, of each command too, says how it is used", () => {
  for (const args of [["--help"], ["-h"], ["status", "--help"], ["audit", "verify", "--help"]]) {
    const { status, stdout, stderr } = run(...args);
    assert.deepEqual([status, stderr], [0, ""]);
    for (const word of ["status", "list", "check", "revoke", "audit verify", "--json", "--socket", "Exit: 0 ok"])
      assert.ok(stdout.includes(word), word);
  }
});

for (const args of [
  [],
  ["nonsense"],
  ["constructor"],
  ["__proto__"],
  ["status", "more"],
  ["status", "--wait"],
  ["status", "--wait", "soon"],
  ["status", "--wait", "86401"],
  ["list", "more"],
  ["doctor", "more"],
  ["check"],
  ["check", "tcp"],
  ["check", "icmp", "80"],
  ["check", "tcp", "http"],
  ["check", "tcp", "65536"],
  ["check", "tcp", "-1"],
  ["check", "tcp", "0x50"],
  ["check", "tcp", "8e1"],
  ["check", "tcp", "80", "::", "more"],
  ["check", "tcp", "80", "--uid", "root"],
  ["check", "tcp", "80", "--uid", "4294967296"],
  ["revoke"],
  ["revoke", "a", "b"],
  ["audit"],
  ["audit", "nonsense"],
  ["audit", "verify"],
  ["audit", "verify", "file", "--reach", "far"],
  ["--no-such-option"],
  ["status", "--no-such-option"],
  ["status", "--json=yes"],
  ["status", "--socket"],
])
  test(`usage error: lowport ${args.join(" ")}`, () => {
    const { json, text } = both_ways(EXIT.usage, ...args);
    assert.equal(text.stdout, "");
    assert.match(text.stderr, /^lowport: .*see lowport --help\n$/);
    assert.equal(json.error.code, "ERR_LOWPORT_USAGE");
  });

const LINES = make_lines(["one", "two", "three", "four"]);
const edited = (LINES[2] as string).replace("three", "seven");
const { hash: _, prev, ...body } = JSON.parse(LINES[2] as string);
const forged = make_line({ ...body, reason: "seven" }, prev).line;

for (const [what, lines, line, kind, options] of [
  ["an edited byte", LINES.with(2, edited), 3, "edited", []],
  ["an edited line with a hash computed again", LINES.with(2, forged), 4, "edited", []],
  ["a removed line", LINES.toSpliced(2, 1), 3, "removed", []],
  ["removed lines at the end", LINES.slice(0, 2), 2, "truncated", ["--reach", "4"]],
  ["swapped lines", LINES.with(1, LINES[2] as string).with(2, LINES[1] as string), 3, "reordered", []],
  ["a line that stands twice", LINES.toSpliced(3, 0, LINES[2] as string), 4, "inserted", []],
  ["a last line that is cut off", [...LINES.slice(0, 3), "cut"], 4, "truncated", []],
] as const)
  test(`audit verify finds ${what}: 2, and says where`, () => {
    const file = join(folder, "damaged.log");
    const text_of = lines.map((one) => (one === "cut" ? (LINES[3] as string).slice(0, 40) : `${one}\n`)).join("");
    writeFileSync(file, text_of);
    const { json, text } = both_ways(EXIT.foundWrong, "audit", "verify", file, ...options);
    const found = json.damage.find((one: { line: number; kind: string }) => one.line === line && one.kind === kind);
    assert.ok(found, JSON.stringify(json));
    assert.equal(found.file, file);
    assert.ok(text.stdout.includes(`${file}:${line}: ${kind}: ${found.reason}\n`), text.stdout);
    assert.match(text.stdout, /\nDAMAGED: \d lines, /);
    assert.equal(text.stderr, "");
  });

test("audit verify of a sound log, over rotation: 0, and where the chain stands", () => {
  const files = [LINES.slice(0, 2), LINES.slice(2)].map((lines, i) => {
    const file = join(folder, `sound.${i}`);
    writeFileSync(file, `${lines.join("\n")}\n`);
    return file;
  });
  const { json, text } = both_ways(EXIT.ok, "audit", "verify", ...files, "--reach", "4");
  const head = JSON.parse(LINES[3] as string).hash;
  assert.deepEqual(json, { lines: 4, first: 1, head: { seq: 4, hash: head }, damage: [] });
  assert.deepEqual(text, { status: 0, stdout: `ok: 4 lines, records 1 to 4, head ${head}\n`, stderr: "" });
});

test("audit verify of a file that is not there is a usage error, not a bug of the program", () => {
  const { json, text } = both_ways(EXIT.usage, "audit", "verify", join(folder, "no such file"));
  assert.equal(json.error.code, "ENOENT");
  assert.match(text.stderr, /no such file/);
});

test("audit verify of a folder is no bug of the program either", () => {
  both_ways(EXIT.usage, "audit", "verify", folder);
});
