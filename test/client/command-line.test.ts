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

const NAMES = ["status", "doctor", "list", "check", "exec", "revoke", "audit tail", "audit verify"];

test("--help and help are the overview: each command, and the exit codes", () => {
  const overview = run("--help");
  assert.deepEqual([overview.status, overview.stderr], [0, ""]);
  for (const name of NAMES) assert.match(overview.stdout, new RegExp(`^ {2}lowport ${name} .*[a-z)]$`, "m"));
  for (const word of ["--json", "lowport help register", "Exit: 0 ok"]) assert.ok(overview.stdout.includes(word), word);
  for (const args of [["-h"], ["help"], ["help", "--help"]]) assert.deepEqual(run(...args), overview);
});

for (const name of NAMES)
  test(`lowport ${name} --help says its words, its options and examples, and no other's`, () => {
    const words = name.split(" ");
    const help = run(...words, "--help");
    assert.deepEqual([help.status, help.stderr], [0, ""]);
    assert.ok(help.stdout.startsWith(`lowport ${name} `));
    assert.match(help.stdout, /\nOptions:\n {2}.*\n[\s\S]*\nExamples:\n {2}# .+\n {2}.*lowport .+\n/);
    assert.equal(help.stdout.includes("--wait"), name === "status");
    for (const args of [
      ["help", ...words],
      [...words, "-h"],
      ["--help", ...words],
    ])
      assert.deepEqual(run(...args), help, args.join(" "));
  });

test("help as JSON: one document with every command, its options and examples", () => {
  const { status, stdout } = run("help", "--json");
  assert.equal(status, 0);
  assert.match(stdout, /^[^\n]+\n$/);
  const { version, commands } = JSON.parse(stdout);
  assert.equal(version, VERSION);
  assert.deepEqual(
    commands.map(({ name }: { name: string }) => name),
    NAMES,
  );
  const names = (name: string) =>
    commands.find((one: { name: string }) => one.name === name).options.map((option: { name: string }) => option.name);
  assert.deepEqual(names("status"), ["wait", "socket", "json", "help", "version"]);
  assert.deepEqual(JSON.parse(run("status", "--help", "--json").stdout).commands, [commands[0]]);
});

test("audit --help explains both of its commands; help register the preload", () => {
  const both = run("audit", "--help");
  assert.match(both.stdout, /^lowport audit tail [\s\S]*\nlowport audit verify /);
  assert.deepEqual(run("help", "audit"), both);
  assert.match(run("help", "register").stdout, /^node --import lowport\/register [\s\S]*LOWPORT_HOLD/);
  assert.equal(JSON.parse(run("help", "register", "--json").stdout).topic, "register");
});

test("an option of another command is a usage error", () => {
  for (const [given, ...words] of [
    ["--wait=1", "list"],
    ["--uid=1", "status"],
    ["--uid=1", "revoke", "x"],
    ["--reach=1", "check", "tcp", "80"],
    ["--config=x", "status"],
    ["--ipv6-only", "list"],
    ["--socket=x", "audit", "verify"],
    ["--socket=x", "doctor"],
    ["--follow", "audit", "verify"],
    ["--reach=1", "audit", "tail"],
  ] as const) {
    const { status, stderr } = run(...words, given);
    assert.equal(status, EXIT.usage, `${words} ${given}`);
    assert.match(stderr, new RegExp(`^lowport: there is no option ${given.split("=")[0]}; see lowport`));
  }
});

test("what is wrong with an option is told in one sentence of our own", () => {
  for (const [words, says] of [
    ["audit tail -n -3", "--lines needs a value, and what follows begins with -"],
    ["audit tail --lines", "--lines needs a value"],
    ["list --json=1", "--json takes no value"],
    ["list -x", "there is no option -x"],
  ] as const) {
    const { status, stderr } = run(...words.split(" "));
    assert.equal(status, EXIT.usage);
    assert.match(stderr, new RegExp(`^lowport: ${says}; see lowport [a-z ]+ --help\n$`));
  }
});

test("options that every command takes may stand before it", () => {
  const behind = run("list", "--json");
  assert.equal(behind.status, EXIT.unreachable);
  assert.deepEqual(run("--json", "list"), behind);
  assert.deepEqual(run("--socket", join(folder, "none"), "list", "--json"), behind);
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
  ["audit", "--json=yes", "verify"],
  ["help", "nonsense"],
  ["help", "status", "more"],
  ["register"],
  ["check", "tcp", "0"],
  ["check", "tcp", "80", "localhost"],
  ["check", "tcp", "80", "--user", "no such user"],
  ["check", "tcp", "80", "--user", "root", "--uid", "0"],
  ["audit", "tail", "--lines", "many"],
  ["audit", "tail", "--decision", "perhaps"],
  ["audit", "tail", "--event", "party"],
  ["audit", "tail", "--port", "0"],
  ["audit", "tail", "one", "two"],
  ["audit", "verify", "file", "--reach", "far"],
  ["--no-such-option"],
  ["status", "--no-such-option"],
  ["status", "--json=yes"],
  ["status", "--socket"],
])
  test(`usage error: lowport ${args.join(" ")}`, () => {
    const { json, text } = both_ways(EXIT.usage, ...args);
    assert.equal(text.stdout, "");
    assert.match(text.stderr, /^lowport: .*see lowport ([a-z]+ )*--help\n$/);
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
  assert.deepEqual(json, { files, lines: 4, first: 1, head: { seq: 4, hash: head }, damage: [] });
  assert.deepEqual(text, { status: 0, stdout: `ok: 4 lines in 2 files, records 1 to 4, head ${head}\n`, stderr: "" });
});

test("audit verify of a file that is not there is a usage error, not a bug of the program", () => {
  const { json, text } = both_ways(EXIT.usage, "audit", "verify", join(folder, "no such file"));
  assert.equal(json.error.code, "ENOENT");
  assert.match(text.stderr, /no such file/);
});

test("audit verify of a folder is no bug of the program either", () => {
  both_ways(EXIT.usage, "audit", "verify", folder);
});
