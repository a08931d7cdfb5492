/** The addon under AddressSanitizer and UndefinedBehaviorSanitizer (test/sanitize.sh), where the compiler brings them. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { REPOSITORY } from "./fixtures.js";

test("the native tests make no sanitizer report", (t) => {
  const { status, stdout, stderr } = spawnSync("sh", [join(REPOSITORY, "test/sanitize.sh")], {
    encoding: "utf8",
    // What node:test tells its children would make of the inner run a part of this one.
    env: { ...process.env, NODE_TEST_CONTEXT: undefined, NODE_V8_COVERAGE: undefined },
  });
  if (status === 69) return t.skip(`NOT TESTED: ${stderr.trim()}`);
  assert.equal(status, 0, `${stdout.slice(-4000)}${stderr.slice(-4000)}`);
});
