/** helper/DAEMON.md goes through both lists of daemon(7) without a gap, and each point names a test that is there. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { REPOSITORY } from "./fixtures.js";

const text = readFileSync(join(REPOSITORY, "helper/DAEMON.md"), "utf8");

for (const [heading, points] of [
  ["SysV daemons", 15],
  ["New-style daemons", 11],
] as const) {
  const section = new RegExp(`## ${heading}.*?\\n(\\|.*?)(\\n\\n|\\n*$)`, "s").exec(text)?.[1] ?? "";
  const rows = section
    .trimEnd()
    .split("\n")
    .slice(2)
    .map((row) => row.split(" | ").map((cell) => cell.replace(/^\| | \|$/g, "")));

  test(`${heading}: ${points} points, each with what lowport does`, () => {
    assert.deepEqual(
      rows.map(([number]) => Number(number)),
      Array.from({ length: points }, (_, i) => i + 1),
    );
    for (const row of rows) assert.ok(row.length === 4 && row.every((cell) => cell !== ""), row.join(" | "));
  });

  test(`${heading}: each point names a test that is there`, () => {
    for (const [number, , , tests = ""] of rows) {
      const named = [...tests.matchAll(/`(test\/[^`]+\.test\.ts)`/g)].map((match) => match[1] as string);
      assert.ok(named.length > 0, `point ${number}`);
      for (const file of named) assert.ok(existsSync(join(REPOSITORY, file)), `point ${number}: ${file} is not there`);
    }
  });
}

test("each point of a SysV daemon has a test of its own", () => {
  const file = readFileSync(join(REPOSITORY, "test/e2e/becomes-a-daemon.test.ts"), "utf8");
  const named = [...file.matchAll(/test\("SysV (\d+)(?: and (\d+))?:/g)].flatMap(([, one, two]) => [
    Number(one),
    Number(two ?? one),
  ]);
  assert.deepEqual(new Set(named), new Set(Array.from({ length: 15 }, (_, i) => i + 1)));
});
