/**
 * Promise: whatever became of an installation (killed half-way, parts deleted), `install` brings it back, and `uninstall` removes
 * all of it.
 */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { boot, CHECKOUT, NODE, need_inits } from "./real-init.js";
import { helper_pid, install, LIBRARY, list_volatile, lowportd, NEWER, RULE, status, with_newer } from "./service.js";

await need_inits(import.meta.url, "systemd");

const box = await boot({ after }, { init: "systemd" });
const leaves_nothing = await with_newer(box);

/** Installs from `from`, and kills that as soon as it says `line`. */
const kill_at = (line: string, from: string) =>
  box.do([
    "sh",
    "-c",
    ': >/srv/out; "$0" "$2/dist/helper/main.cjs" install --allow "$3" >>/srv/out 2>&1 & until grep -q "$1" /srv/out || ! kill -0 $!; do :; done; kill -9 $!; grep "$1" /srv/out',
    NODE,
    line,
    from,
    RULE,
  ]);

for (const line of ["^make the system user", "^copy the program", "^start"])
  test(`a first install is killed at "${line}": uninstall removes what there is, and the next install finishes it`, async () => {
    await kill_at(line, CHECKOUT);
    if (line === "^copy the program") await leaves_nothing();
    await install(box);
    assert.equal((await status(box)).pid, helper_pid(box));
    await leaves_nothing();
  });

for (const line of ["^link .*/current", "^restart"])
  test(`an upgrade is killed at "${line}": the next one finishes it`, async () => {
    await install(box);
    await kill_at(line, NEWER);
    const { code, stderr } = await lowportd(box, ["install"], {}, NEWER);
    assert.equal(code, 0, stderr);
    assert.equal((await status(box)).pid, helper_pid(box));
    assert.equal(await box.do(["find", "/etc", "/usr/local", "-xdev", "-name", "*.lowport-*"]), "");
    await leaves_nothing();
  });

for (const folder of ["/var/log/lowport", "/run/lowport", `${LIBRARY}/current`])
  test(`${folder} was deleted and the service no longer starts: install brings it back`, async () => {
    await install(box);
    await box.do(["rm", "-rf", folder]);
    await box.run(["systemctl", "restart", "lowport.service"]);
    await install(box);
    assert.equal((await status(box)).pid, helper_pid(box));
    await leaves_nothing();
  });

test("the socket's group has changed and a restart failed: install makes the socket anew", async () => {
  await install(box);
  await box.do(["sh", "-ec", `echo '{ "rules": [], "socket": { "group": "adm" } }' >/etc/lowport/lowport.json`]);
  assert.notEqual((await box.run(["systemctl", "restart", "lowport.service"])).code, 0);
  await install(box);
  assert.match(await box.do(["stat", "--format=%G %a", "/run/lowport/lowport.sock"]), /^adm 660$/m);
  await leaves_nothing();
});

test("the socket has moved: install follows, and leaves nothing at the old place", async () => {
  await install(box);
  await box.do([
    "sh",
    "-ec",
    `echo '{ "rules": [], "socket": { "path": "/run/lowport-other/s.sock" } }' >/etc/lowport/lowport.json`,
  ]);
  const { stdout } = await install(box);
  assert.match(stdout, /move the control socket from \/run\/lowport\/lowport.sock to \/run\/lowport-other\/s.sock/);
  await box.do(["/usr/local/bin/lowport", "status", "--socket", "/run/lowport-other/s.sock"]);
  assert.equal(await box.do(["find", "/run/lowport", "-name", "lowport.*"]), "");
  await leaves_nothing();
});

test("the record of an install is lost: uninstall removes what is lowport's by its looks, and says who stays", async () => {
  await install(box);
  await box.do(["rm", `${LIBRARY}/installed.json`]);
  const { code, stdout, stderr } = await lowportd(box, ["uninstall", "--purge"]);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /the user and group lowport stay: .*; userdel lowport removes them/);
  await box.do(["sh", "-ec", "userdel lowport; find /usr/local/share /etc/sysusers.d -type d -empty -delete"]);
  assert.deepEqual(list_volatile(box), []);
  assert.equal(await box.do(["find", "/etc", "/usr/local", "-xdev", "-name", "*lowport*"]), "");
});
