/** SECURITY.md makes no claim that no test holds: each row of its table names tests, and they are there. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";

const ROOT = new URL("../../", import.meta.url);

test("each claim of SECURITY.md names a test that is there", () => {
  const text = readFileSync(new URL("SECURITY.md", ROOT), "utf8");
  const section = /## Claims.*?\n(\|.*?)\n\n/s.exec(text)?.[1] ?? "";
  const rows = section.split("\n").slice(2);
  assert.ok(rows.length > 10, "the table was found");
  for (const row of rows) {
    const named = [...row.matchAll(/`(test\/[^`]+)`/g)].map((match) => match[1] as string);
    assert.ok(named.length > 0, `a claim without a test: ${row}`);
    for (const file of named) assert.ok(existsSync(new URL(file, ROOT)), `${file} is not there: ${row}`);
  }
});

test("each test file that SECURITY.md names makes at least one assertion", () => {
  const text = readFileSync(new URL("SECURITY.md", ROOT), "utf8");
  for (const [, file] of text.matchAll(/`(test\/[^`]+\.test\.ts)`/g))
    assert.match(readFileSync(new URL(file as string, ROOT), "utf8"), /assert|verify_chain/, file);
});
