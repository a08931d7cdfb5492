/** The audit log's file: whole appends or none, torn lines, one writer, and the chain over files that rotation left. */
import assert from "node:assert/strict";
import { closeSync, mkdirSync, openSync, readFileSync, renameSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { append_whole, open_audit_file } from "../../helper/audit-file.js";
import { FIRST_PREV, seal } from "../../shared/chain.js";
import { AS_NOBODY, count_descriptors, DIST, needs_root, run_module, temp_folder } from "../fixtures.js";

const line_of = (seq: number, prev = FIRST_PREV) => seal(JSON.stringify({ seq, event: "start", prev }));
const new_path = () => join(temp_folder(), "audit.log");

test("a new log begins the chain, and is not for others to read", () => {
  const path = new_path();
  const file = open_audit_file(path);
  assert.deepEqual([file.head, file.torn], [{ seq: 0, hash: FIRST_PREV }, ""]);
  assert.equal(statSync(path).mode & 0o137, 0);
  assert.equal(file.identity, `${statSync(path).dev}:${statSync(path).ino}`);
  closeSync(file.fd);
});

test("the chain goes on from the last line", () => {
  const path = new_path();
  const [one, two] = [line_of(1), line_of(2)];
  writeFileSync(path, `${one.line}\n${two.line}\n`);
  const file = open_audit_file(path);
  assert.deepEqual(file.head, { seq: 2, hash: two.hash });
  closeSync(file.fd);
});

for (const [what, before] of [
  ["after others", `${line_of(1).line}\n`],
  ["alone", ""],
] as const)
  test(`a torn last line, ${what}, is taken out and told`, () => {
    const path = new_path();
    writeFileSync(path, `${before}{"seq":2,"ev`);
    const file = open_audit_file(path);
    assert.equal(file.torn, '{"seq":2,"ev');
    assert.equal(file.head.seq, before === "" ? 0 : 1);
    assert.equal(readFileSync(path, "utf8"), before);
    closeSync(file.fd);
  });

test("an edited last line is refused, and the file left as it is", () => {
  const path = new_path();
  const text = `${line_of(1).line.replace("start", "stop ")}\n`;
  writeFileSync(path, text);
  const before = count_descriptors();
  assert.throws(() => open_audit_file(path), /its last line is no audit record/);
  assert.equal(readFileSync(path, "utf8"), text);
  assert.equal(count_descriptors(), before);
});

test("a line longer than a usual read is found whole", () => {
  const path = new_path();
  const long = seal(JSON.stringify({ seq: 7, groups: "1".repeat(800_000), prev: FIRST_PREV }));
  writeFileSync(path, `${line_of(6).line}\n${long.line}\n`);
  const file = open_audit_file(path);
  assert.equal(file.head.hash, long.hash);
  closeSync(file.fd);
});

test("an empty log goes on from the newest predecessor, whatever rotation called it", () => {
  const path = new_path();
  const newest = line_of(30);
  writeFileSync(`${path}.2`, `${line_of(9).line}\n`);
  writeFileSync(`${path}-20260101`, `${line_of(10).line}\n${newest.line}\n`);
  writeFileSync(`${path}.1`, `${line_of(20).line}\n{"torn`);
  writeFileSync(`${path}.3.gz`, "not looked at");
  writeFileSync(join(path, "../other.log"), `${line_of(99).line}\n`);
  mkdirSync(`${path}.d`);
  const file = open_audit_file(path);
  assert.deepEqual(file.head, { seq: 30, hash: newest.hash });
  closeSync(file.fd);
});

test("a predecessor that was edited is refused", () => {
  const path = new_path();
  writeFileSync(`${path}.1`, "nonsense\n");
  assert.throws(() => open_audit_file(path), /no audit record/);
});

test("one writer: another process that has it is respected", () => {
  const path = new_path();
  const file = open_audit_file(path);
  const source = `import { open_audit_file } from "${DIST}helper/audit-file.js";
    try { open_audit_file(${JSON.stringify(path)}); } catch (error) { console.log(error.message); }`;
  assert.match(run_module(source).stdout, /another helper is writing it/);
  closeSync(file.fd);
  assert.equal(run_module(source).stdout, "");
});

test("never through a symbolic link, and never anything but a regular file", () => {
  const path = new_path();
  symlinkSync("/dev/null", path);
  assert.throws(() => open_audit_file(path), { code: "ELOOP" });
  assert.throws(() => open_audit_file("/dev/null"), /is not a regular file/);
});

test("another user's file is refused", { skip: needs_root }, () => {
  const path = new_path();
  run_module(
    `import fs from "node:fs"; fs.writeFileSync(${JSON.stringify(path)}, ""); fs.chownSync(${JSON.stringify(path)}, 65534, 0)`,
  );
  assert.throws(() => open_audit_file(path), /is owned by uid 65534 and not by the helper's user/);
});

test("reopening: the same file is told apart from a new one, which must be empty", () => {
  const path = new_path();
  const file = open_audit_file(path);
  const before = count_descriptors();
  assert.equal(open_audit_file(path, file), undefined);
  renameSync(path, `${path}.1`);
  writeFileSync(path, "x");
  assert.throws(() => open_audit_file(path, file), /the new file is not empty/);
  writeFileSync(path, `${line_of(1).line}\n`);
  assert.throws(() => open_audit_file(path, file), /the new file is not empty/);
  assert.equal(count_descriptors(), before);
  writeFileSync(path, "");
  const next = open_audit_file(path, file);
  assert.notEqual(next?.identity, file.identity);
  closeSync(file.fd);
  if (next !== undefined) closeSync(next.fd);
});

test("append_whole: all of it, in many bytes", () => {
  const path = new_path();
  const file = open_audit_file(path);
  const texts = [300_000, 1, 20_999, 21_000, 21_001, 65_536].map((count) => "€".repeat(count));
  for (const text of [...texts, "\u{1f600}".repeat(10_500), "end\n"]) append_whole(file, text);
  assert.equal(readFileSync(path, "utf8"), `${texts.join("")}${"\u{1f600}".repeat(10_500)}end\n`);
  closeSync(file.fd);
});

test("append_whole: nothing at all where there is not room for all", () => {
  const path = new_path();
  // A file that may not grow past 4096 bytes takes a part of the write, as a full disk does.
  const source = `import fs from "node:fs";
    import { append_whole, open_audit_file } from "${DIST}helper/audit-file.js";
    process.on("SIGXFSZ", () => undefined);
    const file = open_audit_file(${JSON.stringify(path)});
    append_whole(file, "x".repeat(4000));
    try { append_whole(file, "y".repeat(4000)); } catch (error) { console.log(error.code, fs.fstatSync(file.fd).size); }
    append_whole(file, "z".repeat(96));
    try { append_whole(file, "y"); } catch (error) { console.log(error.code, fs.fstatSync(file.fd).size); }`;
  const { stdout, stderr } = run_module(source, ["prlimit", "--fsize=4096"]);
  assert.equal(stdout, "EFBIG 4000\nEFBIG 4096", stderr);
  assert.equal(readFileSync(path, "utf8"), "x".repeat(4000) + "z".repeat(96));
});

test("append_whole: what a failed write left is taken out before the next", () => {
  const path = new_path();
  const file = open_audit_file(path);
  append_whole(file, "whole\npart");
  file.unfinished = 4;
  append_whole(file, "next\n");
  assert.deepEqual([readFileSync(path, "utf8"), file.unfinished], ["whole\nnext\n", 0]);
  closeSync(file.fd);
});

test("append_whole: a full device", () => {
  const fd = openSync("/dev/full", "a");
  const file = { fd, identity: "", head: { seq: 0, hash: FIRST_PREV }, torn: "", unfinished: 0 };
  assert.throws(() => append_whole(file, "x"), { code: "ENOSPC" });
  closeSync(fd);
});

test("a folder that cannot be written is told", () => {
  const { stdout } = run_module(
    `import { open_audit_file } from "${DIST}helper/audit-file.js";
     try { open_audit_file("/audit.log"); } catch (error) { console.log(error.code); }`,
    AS_NOBODY,
  );
  assert.equal(stdout, "EACCES");
});

test("a predecessor with a torn last line is cut where it is torn, and that is told", () => {
  const path = new_path();
  writeFileSync(`${path}.1`, `${line_of(20).line}\n{"seq":21,"torn`);
  const file = open_audit_file(path);
  assert.deepEqual([file.head.seq, file.torn], [20, '{"seq":21,"torn']);
  assert.equal(readFileSync(`${path}.1`, "utf8"), `${line_of(20).line}\n`);
  closeSync(file.fd);
});
