/**
 * Promise: an install on a machine that is not as it should be ends with a clear error and an exit code, and leaves the system
 * as it was: something planted at a path that it writes, a full disk, a name that is taken, a broken configuration, an interruption.
 * What the caller's environment holds decides nothing.
 */
import assert from "node:assert/strict";
import { lstatSync } from "node:fs";
import { createInterface } from "node:readline";
import { after, type TestContext, test } from "node:test";
import { type Outcome, until } from "./helper-process.js";
import { boot, CHECKOUT, NODE, need_inits, type RealBox } from "./real-init.js";
import {
  copy_checkout,
  helper_pid,
  install,
  is_there,
  LIBRARY,
  list_disk,
  list_volatile,
  lowportd,
  RULE,
  same_disk,
  status,
} from "./service.js";

await need_inits(import.meta.url, "systemd", "openrc", "sysv");

const LOG = "/var/log/lowport";
const INSTALL = ["install", "--allow", RULE];

const box = await boot({ after }, { init: "systemd" });
const before = list_disk(box);
await box.do(["mkdir", "-m", "1777", "/srv/public"]);
await box.do(["sh", "-c", "mkdir /srv/victim && echo precious >/srv/victim/file"]);

/** All of the system as far as an install has to do with it. */
const list_all = (machine: RealBox = box) =>
  new Map([...list_disk(machine), ...list_volatile(machine).map((path): [string, string] => [path, "volatile"])]);

/** Makes what is wrong, and proves that an install ends with this code and message, and changes nothing at all. */
async function refused(
  t: TestContext,
  { spoil, mend, code = 78, why, args = INSTALL, machine = box }: Case & { machine?: RealBox },
): Promise<Outcome> {
  await machine.do(["sh", "-ec", spoil]);
  if (mend !== undefined) t.after(() => machine.do(["sh", "-ec", mend]));
  const was = list_all(machine);
  const outcome = await lowportd(machine, args, { timeout: 30_000 });
  if (outcome.code === 0) await lowportd(machine, ["uninstall", "--purge"]); // for the tests that follow
  const said = outcome.stderr + outcome.stdout;
  assert.equal(outcome.code, code, said);
  assert.match(outcome.stderr, why);
  assert.doesNotMatch(outcome.stderr, /\n\s+at /, "no stack");
  same_disk(list_all(machine), was);
  return outcome;
}
interface Case {
  readonly spoil: string;
  readonly mend?: string;
  readonly code?: number;
  readonly why: RegExp;
  readonly args?: readonly string[];
}

const literal = (text: string) => new RegExp(text.replaceAll(/[.*+?^${}()|[\]\\/]/g, "\\$&"));
const FOLDERS = [LIBRARY, "/etc/lowport", "/etc/lowport/rules.d", LOG, "/run/lowport", "/etc/sysusers.d"];
const FILES = [
  ...[`${LIBRARY}/installed.json`, `${LIBRARY}/current`, "/usr/local/bin/lowport", "/usr/local/sbin/lowportd"],
  ...["/etc/lowport/lowport.json", "/etc/lowport/rules.d/50-install.json", "/etc/logrotate.d/lowport"],
  ...["/etc/sysusers.d/lowport.conf", "/etc/systemd/system/lowport.service", "/etc/systemd/system/lowport.socket"],
  ...["/usr/local/share/man/man1/lowport.1", "/usr/local/share/man/man8/lowportd.8"],
  "/usr/local/share/bash-completion/completions/lowport",
];

/** What to plant, for a path that should be a folder or a file. */
const PLANTS: Record<string, string> = {
  "a symbolic link to a file": 'ln -s /srv/victim/file "$path"',
  "a symbolic link to a folder": 'ln -s /srv/victim "$path"',
  "a symbolic link to nothing": 'ln -s /srv/public/later "$path"',
  "a fifo": 'mkfifo -m 666 "$path"',
  "a folder": 'mkdir "$path"',
  "another user's file": 'echo "{}" >"$path"; chown mallory "$path"',
  "a file that all can write": 'echo "{}" >"$path"; chmod 666 "$path"',
  "another user's folder": 'mkdir "$path"; chown mallory "$path"',
  "a folder that all can write": 'mkdir -m 777 "$path"',
};
const fits = (plant: string, folder: boolean) =>
  folder ? !["a folder"].includes(plant) : !plant.includes("'s folder") && !plant.includes("folder that");

for (const [paths, folder] of [
  [FOLDERS, true],
  [FILES, false],
] as const)
  for (const path of paths)
    test(`planted at ${path}`, async (t) => {
      for (const [plant, command] of Object.entries(PLANTS).filter(([name]) => fits(name, folder)))
        await t.test(plant, async (inner) => {
          await refused(inner, {
            spoil: `path=${path}; rm -rf "$path"; mkdir -p "$(dirname "$path")"; ${command}`,
            mend: `rm -rf ${path}; for made in /etc/lowport/rules.d /etc/lowport ${LIBRARY} /etc/sysusers.d /run/lowport \
              /usr/local/share/man/man1 /usr/local/share/man/man8 /usr/local/share/bash-completion/completions /usr/local/share/bash-completion; do
              rmdir "$made" 2>/dev/null || :; done`,
            // A folder that systemd makes its units' files in is only touched when the service is started.
            code: path === "/run/lowport" ? 1 : 78,
            why: literal(path),
          });
        });
    });

for (const [plant, command] of Object.entries(PLANTS).filter(([name]) => /link|^a folder$/.test(name)))
  test(`planted at the lock of installs: ${plant}`, async (t) => {
    const path = "/run/lowport-install.lock";
    await refused(t, { spoil: `path=${path}; ${command}`, mend: `rm -r ${path}`, code: 1, why: literal(path) });
  });

test("nothing was followed: what the planted links led to is as it was", async () => {
  assert.equal(
    await box.do(["sh", "-c", "cat /srv/victim/file; ls -A /srv/victim /srv/public; stat -c %U:%a /srv/victim/file"]),
    "precious\n/srv/public:\n\n/srv/victim:\nfile\nroot:644\n",
  );
});

const CASES: Record<string, Case> = {
  "a program that another user can write": {
    spoil: "cp -r /srv/copy /srv/public/copy; chown alice /srv/public/copy",
    mend: "rm -rf /srv/public/copy",
    why: /\/srv\/public\/copy is owned by uid 2001/,
    args: ["/srv/public/copy"],
  },
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
    why: /user lowport is there already and is root/,
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
  "an --allow for a user that is not there": { spoil: ":", why: /nosuch/, args: ["install", "--allow", "nosuch:tcp:80"] },
  "an init that does not run here": { spoil: ":", why: /sysv|update-rc\.d|systemd/, args: [...INSTALL, "--init", "openrc"] },
};
for (const [what, one] of Object.entries(CASES))
  test(what, async (t) => {
    if (one.args?.[0] !== "/srv/public/copy") return void (await refused(t, one));
    await copy_checkout(box, "/srv/copy");
    t.after(() => box.do(["rm", "-rf", "/srv/copy"]));
    await box.do(["sh", "-ec", one.spoil]);
    t.after(() => box.do(["sh", "-ec", one.mend ?? ""]));
    const was = list_all();
    const { code, stderr } = await lowportd(box, INSTALL, {}, "/srv/public/copy");
    assert.equal(code, 78, stderr);
    assert.match(stderr, one.why);
    same_disk(list_all(), was);
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
    const fill = size === "20m" ? "" : `dd if=/dev/zero of=${folder}/filler bs=1024 2>/dev/null || :`;
    await box.do([
      "sh",
      "-ec",
      `mkdir -p ${folder} /run/aside; cp -a ${folder}/. /run/aside
      mount -t tmpfs -o mode=755,size=${size} small ${folder}; cp -a /run/aside/. ${folder}; rm -r /run/aside; ${fill}`,
    ]);
    t.after(() => box.do(["sh", "-c", `umount -l ${folder}; rmdir /etc/lowport 2>/dev/null; systemctl daemon-reload`]));
    const there = () => box.do(["find", folder]);
    const [was, files] = [list_all(), await there()];
    const { code, stderr } = await lowportd(box, INSTALL);
    assert.equal(code, 1, stderr);
    assert.match(stderr, /ENOSPC|No space left|no space left/);
    same_disk(list_all(), was);
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
  const main = `${CHECKOUT}/dist/helper/main.js`;
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

/** Starts an install and ends it when it has said so many lines. */
async function interrupt(lines: number, signal: string): Promise<number | null> {
  const child = box.spawn([NODE, `${CHECKOUT}/dist/helper/main.js`, ...INSTALL]);
  let code: number | null | undefined;
  child.on("close", (ended) => (code = ended));
  let said = 0;
  let sent: Promise<unknown> | undefined;
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on("line", () => {
    if (++said === lines) sent = box.run(["pkill", `-${signal}`, "-f", "dist/helper/main.js install"]);
  });
  await until("it ends", () => code !== undefined);
  await sent;
  return code as number | null;
}

for (const lines of [1, 5, 9, 11, 13, 16, 19, 21])
  test(`interrupted after ${lines} lines: undone by itself after SIGINT, and by uninstall after SIGKILL`, async () => {
    const code = await interrupt(lines, "INT");
    if (code === 0)
      await box.do(["/usr/local/sbin/lowportd", "uninstall", "--purge"]); // it had ended already
    else assert.equal(code, 1);
    await box.do(["rm", "-rf", LOG]); // the record of a helper that ran stays
    same_disk(list_disk(box, "/srv"), before);
    assert.deepEqual(list_volatile(box), []);

    await interrupt(lines, "KILL");
    const { code: removed, stderr } = await lowportd(box, ["uninstall", "--purge"]);
    assert.equal(removed, 0, stderr);
    same_disk(list_disk(box, "/srv"), before);
    assert.deepEqual(list_volatile(box), []);
  });

test("an install whose output nobody reads any more is not left half-way", async () => {
  const main = `${CHECKOUT}/dist/helper/main.js`;
  for (const how of ['"$@" | :', '"$@" | head -n 1 >/dev/null', '"$@" >&- 2>&- <&-', '"$@" >/dev/full 2>&1']) {
    await box.run([
      "sh",
      "-c",
      `${how}; while pgrep -f "main.js instal[l]" >/dev/null; do sleep 0.05; done`,
      "sh",
      NODE,
      main,
      ...INSTALL,
    ]);
    const whole =
      is_there(box, `${LIBRARY}/current`) && (await lowportd(box, INSTALL)).stdout.includes("already installed and running");
    if (whole) await box.do(["/usr/local/sbin/lowportd", "uninstall", "--purge"]);
    await box.do(["rm", "-rf", LOG]);
    same_disk(list_disk(box, "/srv"), before);
    assert.deepEqual(list_volatile(box), [], how);
  }
});

test("of two installs at once one is refused, and the other is whole", async () => {
  const outcomes = await Promise.all([lowportd(box, INSTALL), lowportd(box, INSTALL)]);
  assert.deepEqual(
    outcomes.map(({ code }) => code).toSorted((a, b) => (a ?? 0) - (b ?? 0)),
    [0, 1],
    JSON.stringify(outcomes),
  );
  assert.match(outcomes.find(({ code }) => code === 1)?.stderr ?? "", /another install or uninstall is running/);
  assert.equal((await status(box)).pid, helper_pid(box));
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
    await refused(t, { spoil, why });
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

for (const init of ["openrc", "sysv"] as const)
  test(`on ${init}: nothing planted is followed by install, or by the script as it starts and stops`, async (t) => {
    const machine = await boot(t, { init });
    await machine.do(["sh", "-c", "mkdir /srv/victim && echo precious >/srv/victim/file"]);
    const script = "/etc/init.d/lowport";
    for (const command of [
      `ln -s /srv/victim/file ${script}`,
      `mkdir ${script}`,
      `mkfifo ${script}`,
      `echo >${script}; chown mallory ${script}`,
    ])
      await refused(t, { machine, spoil: `rm -rf ${script}; ${command}`, why: literal(script) });
    await machine.do(["rm", "-rf", script]);
    await install(machine);
    await machine.do([script, "stop"]);
    for (const path of ["/run/lowport/lowport.pid", "/run/lowport/lowport.sock", "/run/lowport"])
      for (const plant of ["ln -s /srv/victim/file", "ln -s /srv/victim", "mkfifo", "mkdir -m 777"]) {
        const what = `${plant} ${path}`;
        await machine.do(["sh", "-ec", `rm -rf ${path}; mkdir -p /run/lowport; rmdir ${path} 2>/dev/null || :; ${what}`]);
        const { code, stderr, stdout } = await machine.run([script, "start"], { timeout: 30_000 });
        if (code === 0) assert.equal((await machine.run(["lowport", "status"])).code, 0, what);
        else assert.match(stderr + stdout, /\/run\/lowport/, what);
        await machine.run([script, "stop"], { timeout: 30_000 });
        const kept = await machine.do([
          "sh",
          "-c",
          "cat /srv/victim/file; ls -A /srv/victim; stat -c %U:%G:%a /srv/victim /srv/victim/file",
        ]);
        assert.equal(kept, "precious\nfile\nroot:root:755\nroot:root:644\n", what);
        await machine.do(["rm", "-rf", "/run/lowport"]);
      }
    await machine.do([script, "start"]);
    assert.equal((await status(machine)).pid, helper_pid(machine));
    assert.ok(lstatSync(machine.path("/run/lowport/lowport.pid")).isFile());
  });
