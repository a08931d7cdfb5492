/**
 * Promise: an install on a machine that is not as it should be ends with a clear error and an exit code, and leaves the system
 * as it was: a full disk, a name that is taken, a broken configuration.
 * What the caller's environment holds decides nothing.
 */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { type Case, INSTALL, LOG, list_all, make_victim, refused } from "./hostile.js";
import { boot, CHECKOUT, NODE, need_inits } from "./real-init.js";
import { copy_checkout, helper_pid, install, is_there, LIBRARY, list_disk, lowportd, same_disk, status } from "./service.js";

await need_inits(import.meta.url, "systemd");

const box = await boot({ after }, { init: "systemd" });
const before = list_disk(box);
await make_victim(box);

const CASES: Record<string, Case> = {
  "a Node that another user can write": {
    spoil: `cp ${NODE} /srv/public/node; chmod 775 /srv/public/node`,
    mend: "rm /srv/public/node",
    why: /\/srv\/public\/node can be written by others/,
    args: [...INSTALL, "--node", "/srv/public/node"],
  },
  "a Node in a folder of another user": {
    spoil: `mkdir /srv/public/bin; cp ${NODE} /srv/public/bin/node; chown alice /srv/public/bin`,
    mend: "rm -r /srv/public/bin",
    why: /\/srv\/public\/bin is owned by uid 2001/,
    args: [...INSTALL, "--node", "/srv/public/bin/node"],
  },
  "a user of that name who can log in": {
    spoil: "useradd --system --shell /bin/bash lowport",
    mend: "userdel lowport",
    why: /user lowport is there already and can log in/,
  },
  "a person of that name": {
    spoil: "useradd --uid 1234 --shell /usr/sbin/nologin lowport",
    mend: "userdel lowport",
    why: /user lowport is there already and has uid 1234/,
  },
  "a user of that name who is root": {
    spoil: "useradd --non-unique --uid 0 --gid 0 --shell /usr/sbin/nologin lowport",
    mend: "sed -i /^lowport:/d /etc/passwd /etc/shadow",
    why: /\/user: must not be root/,
  },
  "a group of that name with members": {
    spoil: "groupadd --system lowport; gpasswd --add mallory lowport",
    mend: "groupdel lowport",
    why: /group lowport is there already and has members \(mallory\)/,
  },
  "a configuration that is no JSON": {
    spoil: 'mkdir /etc/lowport; echo "{" >/etc/lowport/lowport.json',
    mend: "rm -r /etc/lowport",
    why: /\/etc\/lowport\/lowport\.json: \/: is not JSON/,
  },
  "a configuration with a user that is not there": {
    spoil: `mkdir /etc/lowport; echo '{"rules": [{"name": "x", "users": ["nosuch"], "ports": [1]}]}' >/etc/lowport/lowport.json`,
    mend: "rm -r /etc/lowport",
    why: /\/rules\/0\/users\/0: there is no user "nosuch"/,
  },
  "an --allow that says nothing": { spoil: ":", why: /usage/, code: 64, args: ["install", "--allow", "www-data"] },
  "an --allow for a user that is not there": {
    spoil: ":",
    why: /there is no user "nosuch"/,
    code: 64,
    args: ["install", "--allow", "nosuch:tcp:80"],
  },
  "an init that does not run here": { spoil: ":", why: /sysv|update-rc\.d|systemd/, args: [...INSTALL, "--init", "openrc"] },
};
for (const [what, one] of Object.entries(CASES)) test(what, (t) => refused(t, box, one));

test("a program that another user can write", async (t) => {
  const from = "/srv/public/copy";
  await copy_checkout(box, from);
  await refused(t, box, {
    spoil: `chown alice ${from}`,
    mend: `rm -rf ${from}`,
    why: /\/srv\/public\/copy is owned by uid 2001/,
    from,
  });
});

test("who is not root is told so: 77", async () => {
  const { code, stderr } = await lowportd(box, INSTALL, { user: "alice" });
  assert.equal(code, 77);
  assert.match(stderr, /root/);
  same_disk(list_disk(box, "/srv"), before);
});

for (const [folder, size] of [
  ["/usr/local/lib", "20m"],
  ["/etc/systemd/system", "64k"],
  ["/etc/logrotate.d", "64k"],
  ["/var/log", "64k"],
  ["/etc/lowport", "64k"],
] as const)
  test(`a full disk at ${folder}: it says so, and nothing stays behind`, async (t) => {
    const fill = size === "20m" ? ":" : `dd if=/dev/zero of=${folder}/filler bs=1024 2>/dev/null || :`;
    const keep = folder === "/var/log" ? ":" : `cp -a ${folder}/. /run/aside`;
    const mount = `mount -t tmpfs -o mode=755,size=${size} small ${folder}; cp -a /run/aside/. ${folder}; rm -r /run/aside`;
    await box.do(["sh", "-ec", `mkdir -p ${folder} /run/aside; ${keep}; ${mount}; ${fill}`]);
    t.after(() => box.do(["sh", "-c", `umount -l ${folder}; rmdir /etc/lowport 2>/dev/null; systemctl daemon-reload`]));
    const there = () => box.do(["find", folder]);
    const [was, files] = [list_all(box), await there()];
    const { code, stderr } = await lowportd(box, INSTALL);
    assert.equal(code, 1, stderr);
    assert.match(stderr, /ENOSPC|No space left|no space left/);
    same_disk(list_all(box), was);
    assert.equal(await there(), files);
  });

test("what the caller's environment holds decides nothing", async (t) => {
  const evil = ["systemctl", "systemd-sysusers", "useradd", "groupadd", "node", "sh", "env", "setpriv"];
  await box.do([
    "sh",
    "-ec",
    `mkdir /srv/evil; cd /srv/evil; mkdir -p node_modules/posix
    echo 'require("fs").writeFileSync("/srv/evil/pwned", "")' >node_modules/posix/index.js
    for name in ${evil.join(" ")}; do printf '#!/bin/sh\\n: >/srv/evil/pwned\\n' >$name; chmod 755 $name; done`,
  ]);
  t.after(() => box.do(["rm", "-rf", "/srv/evil"]));
  const env = {
    PATH: "/srv/evil:/usr/bin:/bin",
    TMPDIR: "/srv/evil",
    HOME: "/srv/evil",
    ENV: "/srv/evil/sh",
    BASH_ENV: "/srv/evil/sh",
    IFS: "/",
    LC_ALL: "tr_TR.UTF-8",
    LOWPORT_SOCKET: "/srv/evil/sock",
    SYSTEMD_UNIT_PATH: "/srv/evil",
  };
  const main = `${CHECKOUT}/dist/helper/main.cjs`;
  await box.do(["/bin/sh", "-c", 'umask 000; cd /srv/evil; exec "$@"', "sh", NODE, main, ...INSTALL], { env });
  assert.ok(!is_there(box, "/srv/evil/pwned"));
  const loose = await box.do(["find", LIBRARY, "/etc/lowport", "/etc/systemd/system", LOG, "-perm", "/022", "!", "-type", "l"]);
  assert.equal(loose, "");
  await box.do(["/usr/local/sbin/lowportd", "uninstall", "--purge"]);
  same_disk(list_disk(box, "/srv"), before);
});

for (const name of ["NODE_OPTIONS", "NODE_PATH", "LD_LIBRARY_PATH", "UV_USE_IO_URING"])
  test(`${name} in the environment: refused, and named`, async () => {
    const value = name === "NODE_OPTIONS" ? "--no-warnings" : "/srv/public";
    const { code, stderr } = await lowportd(box, INSTALL, { env: { [name]: value } });
    assert.equal(code, 78);
    assert.match(stderr, new RegExp(name));
    same_disk(list_disk(box, "/srv"), before);
  });

test("a broken configuration at an upgrade: refused, and the service runs on", async (t) => {
  await install(box);
  const pid = helper_pid(box);
  const file = "/etc/lowport/lowport.json";
  const text = await box.do(["cat", file]);
  t.after(() => box.do(["tee", file], { input: text }));
  for (const [spoil, why] of [
    [`echo '{"rules": [], "x": 1}' >${file}`, /lowport\.json: \/x|unknown|lowport\.json: .*x/],
    [`chmod 666 ${file}`, /lowport\.json can be written by others/],
    [
      `chmod 644 ${file}; echo '{}' >/etc/lowport/rules.d/99.json; chown mallory /etc/lowport/rules.d/99.json`,
      /99\.json is owned by uid 2005/,
    ],
  ] as const) {
    await refused(t, box, { spoil, why });
    assert.equal(helper_pid(box), pid);
    assert.equal((await status(box)).pid, pid);
  }
  await box.do(["rm", "/etc/lowport/rules.d/99.json"]);
});

test("uninstall follows nothing that stands in the place of what was installed", async () => {
  for (const path of ["/etc/logrotate.d/lowport", "/usr/local/bin/lowport"])
    await box.do(["sh", "-c", `rm ${path}; ln -s /srv/victim/file ${path}`]);
  await box.do(["sh", "-c", "rm -r /etc/lowport; ln -s /srv/victim /etc/lowport"]);
  const { code, stderr } = await lowportd(box, ["uninstall"]);
  assert.equal(code, 1, "it says what it has left");
  assert.match(stderr, /\/etc\/lowport/);
  assert.equal(await box.do(["cat", "/srv/victim/file"]), "precious\n");
  await box.do(["rm", "-f", "/etc/logrotate.d/lowport", "/usr/local/bin/lowport", "/etc/lowport"]);
  assert.equal((await lowportd(box, ["uninstall", "--purge"])).code, 0);
});
