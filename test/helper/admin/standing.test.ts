/**
 * Removing what a user had a hand in: nobody can lead root out of a folder that it empties, not by a link and not by exchanging one
 * for a folder meanwhile.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { remove_tree } from "../../../helper/admin/standing.js";
import { needs_root, temp_folder } from "../../fixtures.js";

const NOBODY = 65_534;
/** As many that a removal takes long enough to be met in the middle. */
const FOLDERS = 400;

/** A folder of root's with a sub-folder of nobody's in it, and somewhere else a folder that must live. */
function make() {
  const base = temp_folder();
  chmodSync(base, 0o755);
  const [log, sub, victim] = [join(base, "log"), join(base, "log/sub"), join(base, "victim")];
  for (const folder of [log, sub, victim]) mkdirSync(folder, { mode: 0o755 });
  for (let n = 0; n < 50; n++) writeFileSync(join(victim, `file${n}`), "precious");
  return { log, sub, victim };
}

test("links are removed and not followed, whoever made them", { skip: needs_root }, () => {
  const { log, sub, victim } = make();
  symlinkSync(victim, join(log, "link"));
  symlinkSync(victim, join(sub, "link"));
  symlinkSync(join(victim, "file0"), join(sub, "file"));
  chownSync(sub, NOBODY, NOBODY);
  remove_tree(log);
  assert.equal(existsSync(log), false);
  assert.equal(readdirSync(victim).length, 50);
});

test("what is no folder of root's is left", { skip: needs_root }, () => {
  const { log, sub, victim } = make();
  symlinkSync(victim, join(log, "link"));
  chownSync(sub, NOBODY, NOBODY);
  writeFileSync(join(log, "file"), "");
  for (const path of [sub, join(log, "link"), join(log, "file")]) assert.throws(() => remove_tree(path), /no folder of root's/);
  assert.equal(readdirSync(victim).length, 50);
});

test("a user who exchanges folders for links meanwhile loses nothing but his own", { skip: needs_root }, async () => {
  const { log, sub, victim } = make();
  for (let n = 0; n < FOLDERS; n++) {
    mkdirSync(join(sub, `d${n}`));
    writeFileSync(join(sub, `d${n}`, "file"), "");
    chownSync(join(sub, `d${n}`), NOBODY, NOBODY);
    symlinkSync(victim, join(sub, `s${n}`));
  }
  chownSync(sub, NOBODY, NOBODY);
  // Its current folder stays sub, whatever becomes of the names above it.
  const program = `const { renameSync } = require("node:fs"); process.chdir(process.argv[1]); process.stdout.write("ready");
    for (;;) for (let n = ${FOLDERS} - 1; n >= 0; n--) for (const [a, b] of [["d", "x"], ["s", "d"], ["x", "s"]])
      try { renameSync(a + n, b + n); } catch {}`;
  const child = spawn(process.execPath, ["-e", program, sub], { uid: NOBODY, gid: NOBODY, stdio: ["ignore", "pipe", "ignore"] });
  await once(child.stdout, "data");
  try {
    remove_tree(log);
  } finally {
    child.kill("SIGKILL");
    await once(child, "exit");
  }
  assert.equal(readdirSync(victim).length, 50);
});
