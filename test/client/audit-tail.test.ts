/**
 * Promise: `lowport audit tail` prints the newest records that match, and with --follow each that comes exactly once: over
 * rotation, a file that is replaced, emptied, torn or not there yet; and it ends when it is interrupted or nobody reads.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { type TestContext, test } from "node:test";
import { gzipSync } from "node:zlib";
import { EXIT } from "../../shared/protocol.js";
import { until } from "../e2e/helper-process.js";
import { AS_NOBODY, DIST, is_root, temp_folder } from "../fixtures.js";
import { make_line, make_lines } from "./audit-log.js";

const CLI = join(DIST, "client/cli.js");
const text_of = (lines: readonly string[]) => lines.map((line) => `${line}\n`).join("");

function tail(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, "audit", "tail", ...args], { encoding: "utf8" });
  return { status, stdout, stderr, lines: stdout.split("\n").slice(0, -1) };
}

/** A log of its own: `audit.log` in a folder of its own. */
function make_log(lines: readonly string[] = []): string {
  const path = join(temp_folder(), "audit.log");
  if (lines.length > 0) writeFileSync(path, text_of(lines));
  return path;
}

/** `audit tail --follow --json`, and what it has said. */
class Following {
  readonly process: ChildProcess;
  readonly lines: string[] = [];
  readonly #ended: Promise<unknown[]>;
  #awaited = 0;
  stderr = "";

  constructor(t: TestContext, ...args: string[]) {
    this.process = spawn(process.execPath, [CLI, "audit", "tail", "--follow", "--json", ...args], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    t.after(() => this.process.kill("SIGKILL"));
    this.process.stderr?.setEncoding("utf8").on("data", (text: string) => (this.stderr += text));
    createInterface({ input: this.process.stdout as NodeJS.ReadableStream }).on("line", (line) => {
      this.lines.push(line);
      if (this.lines.length === this.#awaited) this.process.emit("said");
    });
    this.#ended = once(this.process, "close");
  }

  /** Waits until it has said so many lines. */
  async said(number: number): Promise<void> {
    if (this.lines.length >= number) return;
    this.#awaited = number;
    const ended = this.#ended.then(() => assert.fail(`it ended after ${this.lines.length} lines: ${this.stderr}`));
    await Promise.race([once(this.process, "said"), ended]);
  }

  /** Ends it, and gives its exit code. */
  async stop(signal: NodeJS.Signals = "SIGINT"): Promise<unknown> {
    this.process.kill(signal);
    return (await this.#ended)[0];
  }
}

const LINES = make_lines(Array.from({ length: 60 }, (_, i) => `reason ${i + 1}`));

test("the last 20 records, or as many as are asked for, back over rotated and compressed files", () => {
  const path = make_log(LINES.slice(45));
  writeFileSync(`${path}.1`, text_of(LINES.slice(30, 45)));
  writeFileSync(`${path}.2.gz`, gzipSync(text_of(LINES.slice(10, 30))));
  writeFileSync(`${path}-20260101`, text_of(LINES.slice(0, 10)));
  writeFileSync(`${path}.old`, "not made by rotation\n");
  assert.deepEqual(tail(path, "--json").lines, LINES.slice(40));
  for (const n of [0, 1, 15, 16, 40, 59, 60]) assert.deepEqual(tail(path, "--json", "-n", String(n)).lines, LINES.slice(60 - n));
  assert.deepEqual(tail(path, "--json", "--lines", "100").lines, LINES);
  assert.deepEqual(tail(join(path, ".."), "--json", "-n", "2").lines, LINES.slice(58), "a folder");
  assert.deepEqual(tail(`${path}.2.gz`, "--json", "-n", "2").lines, LINES.slice(28, 30), "a compressed file");
});

const peer = (uid: number) => ({ pid: 9, uid, gid: uid, groups: [] });
const bind = (port: number) => ({ protocol: "tcp", port, address: "::" });
const RECORDS = [
  { event: "start", reason: "by systemd" },
  { event: "connect", peer: peer(0), conn: 1, decision: "allow" },
  {
    event: "call",
    peer: peer(0),
    method: "bind",
    params: { ...bind(443), label: "web-1" },
    decision: "allow",
    rule: "web",
    lease: "ab12",
  },
  { event: "call", peer: peer(77777), method: "bind", params: bind(25), decision: "deny", code: "EACCES", reason: "no rule" },
  { event: "call", peer: peer(0), method: "release", params: { lease: "ab12" }, decision: "allow", lease: "ab12" },
  { event: "lease-end", peer: peer(0), rule: "web", lease: "ab12", reason: "tcp [::]:443: it was released" },
  { event: "call", peer: peer(77777), decision: "invalid", code: -32700, reason: "not JSON \u001b]0;owned\u0007\u202e\u009b31m" },
];
let before = "0".repeat(64);
const SEALED = RECORDS.map((record, i) => {
  const sealed = make_line({ seq: i + 1, time: "2026-01-02T03:04:05.678Z", ...record }, before);
  before = sealed.hash;
  return sealed.line;
});

for (const [given, ...wanted] of [
  ["--uid=0", 2, 3, 5, 6],
  ["--user=root", 2, 3, 5, 6],
  ["--uid=77777", 4, 7],
  ["--method=bind", 3, 4],
  ["--decision=deny", 4],
  ["--decision=invalid", 7],
  ["--port=443", 3, 6],
  ["--port=25", 4],
  ["--event=lease-end", 6],
  ["--event=call --uid=0 --port=443", 3],
  ["--uid=1"],
] as const)
  test(`the filter ${given}`, () => {
    const path = make_log(SEALED);
    const { lines, status } = tail(path, "--json", ...given.split(" "));
    assert.equal(status, EXIT.ok);
    assert.deepEqual(
      lines,
      wanted.map((n) => SEALED[n - 1]),
    );
    assert.deepEqual(tail(path, "--json", "--lines=1", ...given.split(" ")).lines, lines.slice(-1));
  });

test("for people: a line each, when, who, what, decision, rule or reason; control characters are shown and not sent", () => {
  const path = make_log([...SEALED, "\u001b[2Jno record"]);
  const { stdout, lines } = tail(path);
  const time = "2026-01-02T03:04:05.678Z";
  assert.deepEqual(
    lines.map((line) => line.split(/ {2,}/)),
    [
      [time, "-", "start", "-", "by systemd"],
      [time, "0 (root)", "connect", "allow"],
      [time, "0 (root)", "bind tcp [::]:443", "allow", 'rule "web", lease ab12, label web-1'],
      [time, "77777", "bind tcp [::]:25", "deny", "EACCES: no rule"],
      [time, "0 (root)", "release ab12", "allow", "lease ab12"],
      [time, "0 (root)", "lease-end", "-", 'rule "web", lease ab12, tcp [::]:443: it was released'],
      [time, "77777", "call", "invalid", "-32700: not JSON \\u{1b}]0;owned\\u{7}\\u{202e}\\u{9b}31m"],
      ["no audit record (13 bytes)"],
    ],
  );
  assert.doesNotMatch(stdout, /[^\n\P{Cc}]/u);
  const json = tail(path, "--json");
  assert.deepEqual(json.lines, SEALED, "one object a line");
  assert.equal(json.stderr, "lowport: no audit record (13 bytes)\n");
});

test("a log that is not there is 64, one that may not be read 77 with the group that may", { skip: !is_root }, () => {
  assert.equal(tail("/nonexistent/audit.log").status, EXIT.usage);
  const path = make_log(LINES);
  spawnSync("chgrp", ["-R", "adm", join(path, "..")]);
  for (const modes of [
    ["750", "640"],
    ["755", "640"],
  ] as const) {
    spawnSync("chmod", [modes[0], join(path, "..")]);
    spawnSync("chmod", [modes[1], path]);
    const [setpriv = "", ...words] = AS_NOBODY;
    for (const verb of ["tail", "verify"]) {
      const args = [...words, process.execPath, CLI, "audit", verb, path, "--json"];
      const { status, stderr, stdout } = spawnSync(setpriv, args, { encoding: "utf8" });
      assert.equal(status, EXIT.noPermission, stderr);
      assert.match(stderr, /group "adm" may/);
      if (verb === "verify") assert.equal(JSON.parse(stdout).error.code, "EACCES");
    }
  }
});

test("of a file that is no audit log nothing is shown: who may run this as root need not be allowed to read all", () => {
  const path = make_log(["root:$y$j9T$secret", '{"password":"secret"}', ""]);
  const mixed = tail(make_log([...SEALED, "root:$y$j9T$secret"]));
  assert.deepEqual([mixed.lines.at(-1), mixed.stdout.includes("secret")], ["no audit record (18 bytes)", false]);
  assert.deepEqual(tail(path).lines, ["no audit record (18 bytes)", "no audit record (21 bytes)", "no audit record (0 bytes)"]);
  const json = tail(path, "--json");
  assert.deepEqual([json.lines.length, json.stderr.includes("(18 bytes)")], [0, true]);
  assert.doesNotMatch(json.stderr + tail(path, "--port", "80").stdout, /secret/);
});

test("the standard input is not read, and says so: 64; so does a method that there is not", () => {
  for (const name of ["-", "/dev/stdin"]) {
    const { status, stdout, stderr } = tail(name);
    assert.deepEqual([status, stdout], [EXIT.usage, ""]);
    assert.match(stderr, /audit tail reads a file, and not the standard input/);
  }
  const { status, stderr } = tail(make_log(SEALED), "--method", "foo");
  assert.equal(status, EXIT.usage);
  assert.match(stderr, /--method is one of bind, release, .*, not "foo"/);
});

test("what is no regular file is not read and not waited for: 64", () => {
  const folder = temp_folder();
  const path = join(folder, "audit.log");
  symlinkSync("/etc/passwd", path);
  assert.equal(tail(path).status, EXIT.usage);
  assert.equal(tail(path).stdout, "");
  rmSync(path);
  spawnSync("mkfifo", [path]);
  assert.equal(tail(path).status, EXIT.usage);
  assert.equal(tail(path, "--follow").status, EXIT.usage);
});

test("rotated files that are links or fifos are passed over", () => {
  const path = make_log(LINES.slice(58));
  symlinkSync("/etc/passwd", `${path}.1`);
  spawnSync("mkfifo", [`${path}.2`]);
  assert.deepEqual(tail(path, "--json").lines, LINES.slice(58));
});

test("--follow: what is there, what comes, and a torn line when it has its end", async (t) => {
  const path = make_log(LINES.slice(0, 5));
  const torn = LINES[5] as string;
  appendFileSync(path, torn.slice(0, 30));
  const following = new Following(t, path, "-n", "2");
  await following.said(2);
  appendFileSync(path, `${torn.slice(30)}\n`);
  await following.said(3);
  appendFileSync(path, text_of(LINES.slice(6, 10)));
  await following.said(7);
  // The helper takes a torn line out, and writes another in its place.
  appendFileSync(path, (LINES[10] as string).slice(0, 50));
  truncateSync(path, readFileSync(path).lastIndexOf(10) + 1);
  appendFileSync(path, text_of(LINES.slice(10, 12)));
  await following.said(9);
  assert.equal(await following.stop(), EXIT.ok);
  assert.deepEqual(following.lines, LINES.slice(3, 12));
  assert.equal(following.stderr, "");
});

test("--follow: a file that appears later, in a folder that is made anew", async (t) => {
  const folder = join(temp_folder(), "later");
  const path = join(folder, "audit.log");
  mkdirSync(folder);
  const following = new Following(t, path);
  const watches = () =>
    readdirSync(`/proc/${following.process.pid}/fdinfo`).some((fd) => {
      try {
        return readFileSync(`/proc/${following.process.pid}/fdinfo/${fd}`, "utf8").includes("inotify wd:");
      } catch {
        return false; // closed meanwhile
      }
    });
  await until("it watches the folder", watches);
  rmSync(folder, { recursive: true });
  await until("it watches no more", () => !watches());
  mkdirSync(folder);
  writeFileSync(path, text_of(LINES.slice(0, 2)));
  await following.said(2);
  appendFileSync(path, text_of(LINES.slice(2, 3)));
  await following.said(3);
  await until("it watches again", watches);
  assert.equal(await following.stop("SIGTERM"), EXIT.ok);
  assert.deepEqual(following.lines, LINES.slice(0, 3));
});

test("--follow: started between the move and the helper's new file it misses nothing", async (t) => {
  const path = make_log();
  writeFileSync(`${path}.1`, text_of(LINES.slice(0, 3)));
  const following = new Following(t, path);
  await following.said(3);
  appendFileSync(`${path}.1`, text_of(LINES.slice(3, 4)));
  await following.said(4);
  writeFileSync(path, "");
  // Made by logrotate and not by the helper, which goes on in the old one: for as long as another process takes.
  assert.deepEqual(tail(path, "--json").lines, LINES.slice(0, 4));
  appendFileSync(`${path}.1`, text_of(LINES.slice(4, 5)));
  appendFileSync(path, text_of(LINES.slice(5, 7)));
  await following.said(7);
  await following.stop();
  assert.deepEqual(following.lines, LINES.slice(0, 7));
});

test("--follow: a log that was emptied, put back as a copy, or begun anew", async (t) => {
  const path = make_log(LINES.slice(0, 4));
  const following = new Following(t, path, "-n", "1");
  await following.said(1);
  copyFileSync(path, `${path}.copy`);
  appendFileSync(`${path}.copy`, text_of(LINES.slice(4, 5)));
  renameSync(`${path}.copy`, path);
  await following.said(2);
  truncateSync(path, 0);
  appendFileSync(path, text_of(LINES.slice(5, 6)));
  await following.said(3);
  const other = make_lines(["another", "log"]);
  writeFileSync(`${path}.new`, text_of(other));
  renameSync(`${path}.new`, path);
  await following.said(5);
  await following.stop();
  assert.deepEqual(following.lines, [...LINES.slice(3, 6), ...other]);
});

/** Writes a log in lines and pieces of lines, and moves it away now and then, as logrotate does. */
const WRITER = `
import { appendFileSync, closeSync, openSync, readFileSync, renameSync, rmSync, writeFileSync, writeSync, existsSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { setImmediate as turn } from "node:timers/promises";
const [path, lines, rotations] = [process.argv[1], JSON.parse(readFileSync(0, "utf8")), Number(process.argv[2])];
let fd = openSync(path, "a");
for (const [i, line] of lines.entries()) {
  writeSync(fd, line.slice(0, 60));
  if (i % 7 === 0) await turn();
  writeSync(fd, line.slice(60) + "\\n");
  if ((i + 1) % Math.floor(lines.length / rotations) !== 0) continue;
  for (let n = rotations; n >= 1; n--) {
    for (const end of ["", ".gz"]) if (existsSync(path + "." + n + end)) renameSync(path + "." + n + end, path + "." + (n + 1) + end);
  }
  renameSync(path, path + ".1");
  if (existsSync(path + ".2")) {
    writeFileSync(path + ".2.gz", gzipSync(readFileSync(path + ".2")));
    rmSync(path + ".2");
  }
  if (i % 2 === 0) await turn();
  const next = openSync(path, "a");
  closeSync(fd);
  fd = next;
}`;

for (const [what, filters] of [
  ["all", []],
  ["those that match", ["--port=443"]],
] as const)
  test(`--follow over 20 rotations under load: ${what}, each once and in order`, async (t) => {
    let last = "0".repeat(64);
    const lines = Array.from({ length: 20_000 }, (_, i) => {
      const { line, hash } = make_line({ seq: i + 1, event: "call", method: "bind", params: bind(i % 3 === 0 ? 443 : 80) }, last);
      last = hash;
      return line;
    });
    const path = make_log(lines.slice(0, 10));
    const following = new Following(t, path, "-n", "100", ...filters);
    const wanted = filters.length === 0 ? lines : lines.filter((_, i) => i % 3 === 0);
    await following.said(filters.length === 0 ? 10 : 4);
    const writer = spawn(process.execPath, ["--input-type=module", "-e", WRITER, path, "20"], {
      stdio: ["pipe", "ignore", "inherit"],
    });
    writer.stdin.end(JSON.stringify(lines.slice(10)));
    await once(writer, "close");
    await following.said(wanted.length);
    assert.equal(await following.stop(), EXIT.ok);
    assert.deepEqual(following.stderr, "");
    assert.equal(following.lines.length, wanted.length);
    assert.deepEqual(following.lines, wanted);
  });

test("a reader that lags behind over rotation and compression misses nothing", async (t) => {
  const path = make_log(LINES.slice(0, 1));
  const following = new Following(t, path);
  await following.said(1);
  following.process.kill("SIGSTOP");
  appendFileSync(path, text_of(LINES.slice(1, 5)));
  renameSync(path, `${path}.3`);
  writeFileSync(`${path}.2.gz`, gzipSync(text_of(LINES.slice(5, 9))));
  writeFileSync(`${path}.1`, text_of(LINES.slice(9, 12)));
  writeFileSync(path, text_of(LINES.slice(12, 14)));
  following.process.kill("SIGCONT");
  await following.said(14);
  await following.stop();
  assert.deepEqual(following.lines, LINES.slice(0, 14));
});

test("when nobody reads any more it ends, with nothing to say", async () => {
  const path = make_log(LINES);
  const reader = '{ read -r line; exec <&-; echo "$line"; }';
  const script = `"$1" "$2" audit tail --follow --lines 60 "$3" | ${reader}; echo "ended \${PIPESTATUS[0]}"`;
  const child = spawn("bash", ["-c", script, "bash", process.execPath, CLI, path], { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    said += text;
    if (text.includes("reason 1")) appendFileSync(path, `${LINES[0]}\n`); // the reader has closed it by now
  });
  await once(child, "close");
  assert.match(said, /^2026\S+ .*reason 1\nended 0\n$/);
  assert.equal(stderr, "");
});
