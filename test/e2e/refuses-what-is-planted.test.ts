/**
 * Promise: what somebody has planted where lowport will write, a symbolic link, a fifo, a folder, a file of his own, is refused by
 * name and left as it is, by an install on each init and by the scripts as they start and stop; and no link is followed.
 */
import assert from "node:assert/strict";
import { lstatSync } from "node:fs";
import { after, test } from "node:test";
import { LOG, literal, look_at_victim, make_victim, refused, UNTOUCHED } from "./hostile.js";
import { boot, need_inits } from "./real-init.js";
import { helper_pid, install, LIBRARY, status } from "./service.js";

await need_inits(import.meta.url, "systemd", "openrc", "sysv");

const box = await boot({ after }, { init: "systemd" });
await make_victim(box);

const PLANTS = {
  "a symbolic link to a file": 'ln -s /srv/victim/file "$path"',
  "a symbolic link to a folder": 'ln -s /srv/victim "$path"',
  "a symbolic link to nothing": 'ln -s /srv/public/later "$path"',
  "a fifo": 'mkfifo -m 666 "$path"',
  "a folder": 'mkdir "$path"',
  "another user's folder": 'mkdir "$path"; chown mallory "$path"',
  "a folder that all can write": 'mkdir -m 777 "$path"',
} as const;
type Plant = keyof typeof PLANTS;

const FOLDERS = [LIBRARY, "/etc/lowport", "/etc/lowport/rules.d", LOG, "/run/lowport"];
const FOR_FOLDERS: Plant[] = ["a symbolic link to a folder", "a fifo", "another user's folder", "a folder that all can write"];
const FILES = [
  ...[`${LIBRARY}/installed.json`, `${LIBRARY}/current`, "/usr/local/bin/lowport", "/usr/local/sbin/lowportd"],
  ...["/etc/lowport/lowport.json", "/etc/lowport/rules.d/50-install.json", "/etc/logrotate.d/lowport"],
  ...["/etc/sysusers.d/lowport.conf", "/etc/systemd/system/lowport.service", "/etc/systemd/system/lowport.socket"],
  ...["/usr/local/share/man/man8/lowportd.8", "/usr/local/share/bash-completion/completions/lowport"],
];
const FOR_FILES: Plant[] = ["a symbolic link to a file", "a symbolic link to nothing", "a fifo", "a folder"];
/** Folders that may have been made for what was planted. */
const MADE = ["/etc/lowport/rules.d", "/etc/lowport", LIBRARY, "/etc/sysusers.d", "/usr/local/share/man/man8"];

for (const [paths, plants] of [
  [FOLDERS, FOR_FOLDERS],
  [FILES, FOR_FILES],
] as const)
  for (const path of paths)
    test(`planted at ${path}`, async (t) => {
      for (const plant of plants)
        await t.test(plant, (inner) =>
          refused(inner, box, {
            spoil: `path=${path}; rm -rf "$path"; mkdir -p "$(dirname "$path")"; ${PLANTS[plant]}`,
            mend: `rm -rf ${path}; rmdir ${MADE.join(" ")} 2>/dev/null || :`,
            why: literal(path),
          }),
        );
    });

for (const plant of FOR_FILES.filter((name) => name.includes("link") || name === "a folder"))
  test(`planted at the lock of installs: ${plant}`, (t) => {
    const path = "/run/lowport-install.lock";
    return refused(t, box, { spoil: `path=${path}; ${PLANTS[plant]}`, mend: `rm -r ${path}`, code: 1, why: literal(path) });
  });

test("nothing was followed: what the planted links led to is as it was", async () => {
  assert.equal(await look_at_victim(box), UNTOUCHED);
});

for (const init of ["openrc", "sysv"] as const)
  test(`on ${init}: nothing planted is followed by install, or by the script as it starts and stops`, async (t) => {
    const machine = await boot(t, { init });
    await make_victim(machine);
    const script = "/etc/init.d/lowport";
    for (const plant of FOR_FILES)
      await t.test(`${plant} at ${script}`, (inner) =>
        refused(inner, machine, { spoil: `path=${script}; ${PLANTS[plant]}`, mend: `rm -r ${script}`, why: literal(script) }),
      );
    await install(machine);
    await machine.do([script, "stop"]);
    for (const path of ["/run/lowport/lowport.pid", "/run/lowport/lowport.sock", "/run/lowport"]) {
      const plants = path === "/run/lowport" ? FOR_FOLDERS : FOR_FILES;
      // OpenRC tries for ten seconds to start what cannot be.
      for (const plant of init === "openrc" ? plants.slice(-1) : plants)
        await t.test(`${plant} at ${path}`, async () => {
          await machine.do(["sh", "-ec", `path=${path}; mkdir -p /run/lowport; rm -rf "$path"; ${PLANTS[plant]}`]);
          const { code, stderr, stdout } = await machine.run([script, "start"], { timeout: 30_000 });
          if (code !== 0) assert.match(stderr + stdout, /\/run\/lowport/);
          else {
            // It may have made room for itself, if all is then as it must be.
            assert.equal((await machine.run(["lowport", "status"])).code, 0);
            assert.equal(await machine.do(["stat", "-c", "%F %U %a", "/run/lowport"]), "directory root 755\n");
          }
          await machine.run([script, "stop"], { timeout: 30_000 });
          assert.equal(await look_at_victim(machine), UNTOUCHED);
          await machine.do(["rm", "-rf", "/run/lowport"]);
        });
    }
    await machine.do([script, "start"]);
    assert.equal((await status(machine)).pid, helper_pid(machine));
    assert.ok(lstatSync(machine.path("/run/lowport/lowport.pid")).isFile());
  });
