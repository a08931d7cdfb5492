/** Ids that nobody can guess, or none. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { new_id } from "../../helper/new-id.js";
import { count_descriptors, DIST, needs_root, run_module, temp_folder } from "../fixtures.js";

test("each is another, and they take one descriptor", () => {
  new_id();
  const before = count_descriptors();
  const ids = Array.from({ length: 10_000 }, new_id);
  assert.equal(new Set(ids).size, ids.length);
  for (const id of ids) assert.match(id, /^[0-9a-f]{16}$/);
  assert.equal(count_descriptors(), before);
});

test("where /dev/urandom is not the kernel's there is none", { skip: needs_root }, () => {
  const file = join(temp_folder(), "empty");
  writeFileSync(file, "");
  const source = `import { execFileSync } from "node:child_process";
    import { new_id } from "${DIST}helper/new-id.js";
    execFileSync("mount", ["--bind", ${JSON.stringify(file)}, "/dev/urandom"]);
    for (let i = 0; i < 2; i++) try { console.log(new_id()); } catch (error) { console.log(error.message); }`;
  const { stdout, stderr } = run_module(source, ["unshare", "--mount"]);
  assert.match(stdout, /^(\/dev\/urandom gives no random bytes.*\n?){2}$/, stderr);
});
