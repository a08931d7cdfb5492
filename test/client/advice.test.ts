/** Promise: a helper that is not there is started by the command that fits this machine, and installed if it is not. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { how_to_start } from "../../client/advice.js";
import { temp_folder } from "../fixtures.js";

for (const [what, files, advice] of [
  ["nothing is installed", [], /`sudo lowportd install`, or start it by hand as root/],
  [
    "systemd runs and has the unit",
    ["/run/systemd/system/x", "/etc/systemd/system/lowport.service"],
    /sudo systemctl start lowport/,
  ],
  ["the unit is there and systemd does not run", ["/etc/systemd/system/lowport.service"], /sudo lowportd install/],
  ["OpenRC runs and has the script", ["/run/openrc/x", "/etc/init.d/lowport"], /sudo rc-service lowport start/],
  ["a SysV init has the script", ["/etc/init.d/lowport"], /sudo service lowport start/],
  ["only the program is installed", ["/usr/local/lib/lowport/current/x"], /sudo lowportd run --daemon/],
] as const)
  test(`${what}: ${advice.source}`, () => {
    const root = temp_folder();
    for (const file of files) {
      mkdirSync(dirname(join(root, file)), { recursive: true });
      writeFileSync(join(root, file), "");
    }
    assert.match(how_to_start(root), advice);
  });
