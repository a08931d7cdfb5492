/** Promise: a misspelt option ends lowportd before anything is done (64), and the nearest one is named. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { EXIT } from "../../../shared/protocol.js";
import { DIST } from "../../fixtures.js";

for (const [line, says] of [
  ["run --deamon", "there is no option --deamon; is it --daemon?"],
  ["--deamon", "there is no option --deamon; is it --daemon?"],
  ["run --sylog", "there is no option --sylog; is it --syslog?"],
  ["run --syslog --deamon", "there is no option --deamon; is it --daemon?"],
  ["run --config=/x --pidfile /y", "there is no option --pidfile; is it --pid-file?"],
  ["run --daemon --syslog", "--syslog cannot be given here"],
  ["run --daemon=yes", "Option '--daemon' does not take an argument"],
  ["run -x", "there is no option -x"],
  ["run --no-such-option", "there is no option --no-such-option"],
  ["install --alow www-data:tcp:80", "there is no option --alow; is it --allow?"],
  ["doctor --jsn", "there is no option --jsn; is it --json?"],
  ["check-config --config", "Option '--config <value>' argument missing"],
] as const)
  test(`lowportd ${line}: ${says}`, () => {
    const { status, stderr, stdout } = spawnSync(process.execPath, [join(DIST, "helper/main.cjs"), ...line.split(" ")], {
      encoding: "utf8",
      env: { PATH: "/usr/bin:/bin" },
    });
    assert.deepEqual([status, stdout, stderr], [EXIT.usage, "", `lowportd: usage: ${says}; see lowportd --help\n`]);
  });
