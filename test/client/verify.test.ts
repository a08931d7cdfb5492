/** Promise: `audit verify` finds every edited, removed, inserted, reordered or cut-off line and says which; and nothing else. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import * as fc from "fast-check";
import { verify_audit } from "../../client/verify.js";
import { temp_folder } from "../fixtures.js";
import { FIRST, make_line, make_lines, verify_lines } from "./audit-log.js";

const LINES = make_lines(["one", "two", "three", "four", "five"]);
const without = (...gone: number[]) => LINES.filter((_, i) => !gone.includes(i + 1));
const found = async (content: readonly string[] | string, reach?: number) =>
  (await verify_lines([content], reach)).damage.map(({ line, kind }) => `${line} ${kind}`);
/** A line changed by somebody who can recompute its hash. */
const forged = (n: number) => {
  const { hash: _, prev, ...body } = JSON.parse(LINES[n - 1] as string) as { hash: string; prev: string };
  return make_line({ ...body, reason: "forged" }, prev).line;
};
const replaced = (n: number, line: string) => LINES.with(n - 1, line);

test("a sound log has no damage, and its head is told", async () => {
  const { lines, first, head, damage } = await verify_lines([LINES]);
  assert.deepEqual({ lines, first, damage }, { lines: 5, first: 1, damage: [] });
  assert.deepEqual(head, { seq: 5, hash: (JSON.parse(LINES[4] as string) as { hash: string }).hash });
});

test("any log of any records is sound, in one file or over several, and from wherever it starts", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.string({ unit: "grapheme" }), { maxLength: 30 }),
      fc.integer({ min: 1, max: 1000 }),
      fc.array(fc.nat({ max: 30 }), { maxLength: 3 }),
      async (reasons, from, cuts) => {
        const lines = make_lines(reasons, from, from === 1 ? FIRST : "ab".repeat(32));
        const ends = [0, ...cuts.toSorted((a, b) => a - b), lines.length];
        const files = ends.slice(1).map((end, i) => lines.slice(ends[i], end));
        const verdict = await verify_lines(files, lines.length === 0 ? 0 : from + lines.length - 1);
        assert.deepEqual(verdict.damage, []);
        assert.equal(verdict.lines, lines.length);
      },
    ),
    { numRuns: 50 },
  );
});

test("any single byte that is changed, anywhere in a log, is found", async () => {
  const log = Buffer.from(`${make_lines(["a", 'quo"te\\', "é 😀 \uFFFD x", "", "end"]).join("\n")}\n`);
  await fc.assert(
    fc.asyncProperty(fc.nat({ max: log.length - 1 }), fc.integer({ min: 1, max: 255 }), async (at, change) => {
      const damaged = Buffer.from(log);
      damaged[at] = (damaged[at] as number) ^ change;
      assert.notDeepEqual((await verify_lines([damaged])).damage, [], `byte ${at} changed by ${change}`);
    }),
    { numRuns: 1000 },
  );
});

test("a byte of U+FFFD that is changed is found, though the text reads the same", async () => {
  const log = Buffer.from(`${make_lines(["before", "\uFFFD", "after"]).join("\n")}\n`);
  const at = log.indexOf(Buffer.from("\uFFFD"));
  assert.equal(log[at], 0xef);
  log[at] = 0xf0; // not UTF-8 any more; decoders put U+FFFD in its place
  assert.deepEqual(
    (await verify_lines([log])).damage.map(({ line, kind }) => `${line} ${kind}`),
    ["2 edited"],
  );
});

test("any single line that is taken out is found, but for the first and the last", async () => {
  for (const n of [2, 3, 4]) assert.deepEqual(await found(without(n)), [`${n} removed`]);
  assert.deepEqual(await found(without(2, 3)), ["2 removed"]);
  assert.match((await verify_lines([without(2, 3)])).damage[0]?.reason ?? "", /records 2 to 3 are missing/);
});

test("lines taken from the end are found with the number that the log had reached", async () => {
  assert.deepEqual(await found(without(4, 5)), []);
  assert.deepEqual(await found(without(4, 5), 3), []);
  assert.deepEqual(await found(without(4, 5), 5), ["3 truncated"]);
  assert.deepEqual(await found([], 5), ["0 truncated"]);
});

test("lines taken from the beginning show in the first record's number", async () => {
  const { first, damage } = await verify_lines([without(1, 2)]);
  assert.deepEqual({ first, damage }, { first: 3, damage: [] });
});

test("a log that claims to begin must begin at the chain's start", async () => {
  assert.deepEqual(await found(make_lines(["one", "two"], 1, "ab".repeat(32))), ["1 edited"]);
});

for (const n of [1, 3, 5])
  test(`an edited line is found: line ${n}`, async () => {
    assert.deepEqual(await found(replaced(n, (LINES[n - 1] as string).replace(/(one|three|five)/, "other"))), [`${n} edited`]);
  });

test("an edited line whose own hash was computed again is found at the next", async () => {
  assert.deepEqual(await found(replaced(3, forged(3))), ["4 edited"]);
  assert.match((await verify_lines([replaced(3, forged(3))])).damage[0]?.reason ?? "", /the record before it, 3, is another/);
});

test("a forged last line is not found from the file alone, but its hash is another head", async () => {
  const { head, damage } = await verify_lines([replaced(5, forged(5))]);
  assert.deepEqual(damage, []);
  assert.notEqual(head?.hash, (await verify_lines([LINES])).head?.hash);
});

test("swapped lines are found", async () => {
  const swapped = LINES.with(1, LINES[2] as string).with(2, LINES[1] as string);
  assert.ok((await found(swapped)).includes("3 reordered"), (await found(swapped)).join());
});

test("a line that stands twice is found", async () => {
  assert.deepEqual(await found(LINES.toSpliced(3, 0, LINES[2] as string)), ["4 inserted"]);
  assert.ok((await found(LINES.toSpliced(4, 0, LINES[1] as string))).includes("5 reordered"));
});

test("a line that was made up and put between is found", async () => {
  const { hash } = JSON.parse(LINES[2] as string) as { hash: string };
  const made_up = make_line({ seq: 4, reason: "made up" }, hash).line;
  assert.notDeepEqual(await found(LINES.toSpliced(3, 0, made_up)), []);
});

test("a last line that was cut off is found, wherever it was cut", async () => {
  const whole = `${LINES.join("\n")}\n`;
  const start = whole.lastIndexOf("\n", whole.length - 2) + 1;
  for (let end = start + 1; end < whole.length; end += 7) assert.deepEqual(await found(whole.slice(0, end)), ["5 truncated"]);
  assert.deepEqual(await found(whole.slice(0, -1)), ["5 truncated"]);
});

for (const [what, line] of [
  ["text", "hello"],
  ["an empty line", ""],
  ["JSON that is no record", "{}"],
  ["a sealed line without a number", make_line({ reason: "x" }, FIRST).line],
] as const)
  test(`${what} in the place of a line is found`, async () => assert.equal((await found(replaced(3, line)))[0], "3 edited"));

test("damage is told by file and line, over rotation", async () => {
  const { damage } = await verify_lines([LINES.slice(0, 2), LINES.slice(3)]);
  assert.deepEqual(
    damage.map(({ file, line, kind }) => [file, line, kind]),
    [["1", 1, "removed"]],
  );
  assert.notDeepEqual((await verify_lines([LINES.slice(3), LINES.slice(0, 3)])).damage, [], "files in the wrong order");
});

test("a log far larger than what is read at once is verified", async () => {
  const lines = make_lines(Array.from({ length: 5000 }, (_, i) => `${i} ${"x".repeat(i % 997)}`));
  assert.deepEqual((await verify_lines([lines], 5000)).damage, []);
  assert.deepEqual(
    (await verify_lines([lines.with(4000, (lines[4000] as string).replace("x", "y"))])).damage.map(({ line }) => line),
    [4001],
  );
});

const zip = (lines: readonly string[]) => gzipSync(lines.map((line) => `${line}\n`).join(""));

test("files that rotation has compressed are verified like the others, also larger ones than are read at once", async () => {
  const many = make_lines(Array.from({ length: 5000 }, (_, i) => `${i} ${"x".repeat(i % 997)}`));
  const { damage, lines } = await verify_lines([zip(many.slice(0, 4000)), many.slice(4000, 4500), many.slice(4500)], 5000);
  assert.deepEqual({ damage, lines }, { damage: [], lines: 5000 });
  const edited = many.with(1999, (many[1999] as string).replace("x", "y"));
  assert.deepEqual(
    (await verify_lines([zip(edited.slice(0, 4000)), edited.slice(4000)])).damage.map(({ file, line, kind }) => [
      file,
      line,
      kind,
    ]),
    [["0", 2000, "edited"]],
  );
  assert.deepEqual(await found([]), []);
  assert.deepEqual((await verify_lines([zip([]), LINES])).damage, []);
});

test("a compressed file that was cut or edited is damage, and the others are still verified", async () => {
  const sound = zip(LINES.slice(0, 3));
  const edited = Buffer.from(sound);
  edited[20] = (edited[20] as number) ^ 0xff;
  for (const broken of [sound.subarray(0, -9), sound.subarray(0, 2), edited]) {
    const { damage, first, head } = await verify_lines([broken, LINES.slice(3).with(1, "edited")]);
    assert.deepEqual(
      damage.map(({ file, line, kind }) => [file, line, kind]),
      [
        ["0", 0, "edited"],
        ["1", 2, "edited"],
      ],
    );
    assert.match(damage[0]?.reason ?? "", /^the file cannot be decompressed: /);
    assert.deepEqual([first, head?.seq], [4, 5]);
  }
});

/** A file of gzip that says `piece` so many times. */
const repeated = (piece: Buffer, times: number) => Buffer.concat(Array.from({ length: times }).fill(gzipSync(piece)) as Buffer[]);

test("a bomb of zeros, of newlines or of the same record is damage, found before it has cost much", async () => {
  for (const [piece, kind] of [
    [Buffer.alloc(2 ** 26), "edited"],
    [Buffer.alloc(2 ** 26, "\n"), "edited"],
    [Buffer.from(`${LINES[2]}\n`.repeat(2 ** 16)), "inserted"],
  ] as const) {
    const begun = process.cpuUsage();
    const { damage, lines } = await verify_lines([LINES.slice(0, 3), repeated(piece, 40), LINES.slice(3)]);
    const { user, system } = process.cpuUsage(begun);
    assert.ok(user + system < 5e6, `${user + system} us`);
    assert.ok(lines < 2000, String(lines));
    assert.equal(damage[0]?.kind, kind);
    assert.match(damage.at(-1)?.reason ?? "", /the rest of the file is not read/);
    assert.deepEqual(
      damage.filter(({ file }) => file !== "1"),
      [],
      "the files after it are judged by themselves",
    );
  }
});

test("a file that is not there is the file system's error", async () => {
  await assert.rejects(verify_audit(["/nonexistent/audit.log"]), { code: "ENOENT" });
});

test("what is no regular file is damage, not opened, and not waited for", async () => {
  const folder = temp_folder();
  const sound = join(folder, "sound");
  writeFileSync(sound, `${LINES.join("\n")}\n`);
  const planted = join(folder, "planted");
  for (const plant of [
    () => symlinkSync(sound, planted),
    () => spawnSync("mkfifo", [planted]),
    () => mkdirSync(planted),
    () => spawnSync("python3", ["-c", "import socket,sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])", planted]),
  ]) {
    plant();
    const { damage, lines } = await verify_audit([planted, sound]);
    assert.equal(lines, 5);
    assert.deepEqual(
      damage.map(({ file, line, kind }) => [file, line, kind]),
      [[planted, 0, "inserted"]],
    );
    rmSync(planted, { recursive: true });
  }
});
