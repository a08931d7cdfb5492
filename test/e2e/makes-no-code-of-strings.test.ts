/**
 * Promise: no string becomes code in the helper as it is started: by its own first lines, or by a flag of Node's with
 * `lowportd install --hardened` (installs-on-systemd.test.ts).
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { test } from "node:test";
import { HARDENED_FLAGS, NODE_FLAGS } from "../../shared/node-flags.js";
import { enter_box } from "./box.js";
import { start_helper } from "./helper-process.js";

await enter_box(import.meta.url);

const PROBE = "/etc/lowport-probe.cjs";
const WAYS = [
  "globalThis.eval('1')",
  "(0, eval)('1')",
  "eval('1')",
  "Function('return 1')",
  "new Function('return 1')",
  "(() => {}).constructor('return 1')",
  "(async () => {}).constructor('return 1')",
  "(function* () {}).constructor('return 1')",
  "(async function* () {}).constructor('return 1')",
  "Object.constructor('return 1')",
  "process.on.constructor('return 1')",
  "require('node:fs').openSync.constructor('return 1')",
];

/** Loaded into the helper before all else, it tries each way when the helper serves. */
const probe = `process.on("SIGUSR2", () => {
  const tries = [${WAYS.map((way) => `() => ${way}`).join(",\n")}];
  const outcomes = tries.map((attempt) => { try { attempt(); return "works"; } catch ({ name }) { return name; } });
  require("node:fs").writeSync(2, JSON.stringify({ msg: "probe", outcomes }) + "\\n");
});`;

for (const [name, nodeFlags] of Object.entries({ "as installed": NODE_FLAGS, hardened: HARDENED_FLAGS }))
  test(`${name}, each way is refused`, async (t) => {
    writeFileSync(PROBE, probe);
    const helper = await start_helper(t, { nodeFlags: [...nodeFlags, "--require", PROBE] });
    helper.process.kill("SIGUSR2");
    const { outcomes } = await helper.said("probe");
    assert.deepEqual(
      outcomes,
      WAYS.map(() => "EvalError"),
    );
  });
