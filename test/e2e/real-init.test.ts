/**
 * The machines of the other tests are what they claim: a real init is process 1 of each, the program in there is root's
 * alone, nothing that is done inside reaches this machine, and nothing is left of one, however it ends.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { names_in } from "./box.js";
import { until } from "./helper-process.js";
import { boot, CHECKOUT, type Init, NODE, need_inits, type RealBox } from "./real-init.js";

const INITS: Record<Init, string> = {
  systemd: "/usr/lib/systemd/systemd",
  openrc: "/usr/sbin/openrc-init",
  sysv: "/usr/sbin/init",
};

await need_inits(import.meta.url, "systemd", "openrc", "sysv");

/** All that this machine has of /etc: names, owners, modes, sizes and times. */
function list_etc(): string[] {
  return readdirSync("/etc", { recursive: true })
    .map(String)
    .toSorted()
    .map((name) => {
      const { uid, gid, mode, size, mtimeMs } = statSync(join("/etc", name), { throwIfNoEntry: false }) ?? {};
      return [name, uid, gid, mode, size, mtimeMs].join(" ");
    });
}

/** Processes whose namespace of processes is this one. */
function processes_in(namespace: string): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readlinkSync(`/proc/${pid}/ns/pid`) === namespace;
      } catch {
        return false; // it has ended meanwhile
      }
    });
}

const namespace_of = (box: RealBox, kind: string) => readlinkSync(`/proc/${box.pid}/ns/${kind}`);

async function nothing_runs(namespace: string): Promise<void> {
  await until("its processes are gone", () => processes_in(namespace).length === 0);
}

async function nothing_is_left(cgroup: string, namespace: string): Promise<void> {
  await nothing_runs(namespace);
  await until("its cgroup is gone", () => !existsSync(cgroup));
  assert.doesNotMatch(readFileSync("/proc/self/mounts", "utf8"), /^disk /m);
}

for (const [init, program] of Object.entries(INITS) as [Init, string][])
  test(`${init} is process 1, and what is done in there stays in there`, async (t) => {
    const [etc, hostname] = [list_etc(), readFileSync("/proc/sys/kernel/hostname", "utf8")];
    const box = await boot(t, { init });
    const { cgroup } = box;
    const namespace = namespace_of(box, "pid");
    assert.equal(await box.do(["readlink", "/proc/1/exe"]), `${program}\n`);
    assert.match(readFileSync(`/proc/${box.pid}/status`, "utf8"), /^NSpid:\t\d+\t1$/m);
    for (const kind of ["net", "mnt", "pid", "uts", "ipc", "cgroup"])
      assert.notEqual(namespace_of(box, kind), readlinkSync(`/proc/self/ns/${kind}`), kind);
    assert.deepEqual((await box.do(["ls", "/sys/class/net"])).split("\n"), ["lo", ""]);

    await box.do(["sh", "-c", "useradd dora && hostname changed && echo x >>/etc/hosts && echo y >/usr/local/lib/planted"]);
    assert.equal((await box.run(["sh", "-c", "echo 1 >/proc/sys/kernel/sysrq"])).code, 2, "the kernel is not its own");
    assert.match(await box.do(["id", "dora"]), /uid=/);
    assert.deepEqual(list_etc(), etc);
    assert.equal(readFileSync("/proc/sys/kernel/hostname", "utf8"), hostname);
    assert.ok(!existsSync("/usr/local/lib/planted"));

    await box.do(["sh", "-c", "echo gone >/run/before"]);
    await box.reboot();
    assert.match(await box.do(["id", "dora"]), /uid=/);
    assert.ok(!existsSync(box.path("/run/before")));
    if (namespace_of(box, "pid") !== namespace) await nothing_runs(namespace);
    const second = namespace_of(box, "pid");
    await box.shutdown();
    await nothing_is_left(cgroup, second);
  });

test("the program in there is root's alone and read-only, and every user can run it", async (t) => {
  const box = await boot(t, { init: "sysv" });
  const ask = `import { distrust } from "${CHECKOUT}/dist/helper/trusted-path.js";
    console.log(process.argv.slice(1).map((path) => distrust(path) ?? "ok").join());`;
  const main = `${CHECKOUT}/dist/helper/main.cjs`;
  const said = await box.do([NODE, "--input-type=module", "-e", ask, "--", main, NODE], { user: "mallory" });
  assert.equal(said, "ok,ok\n");
  assert.notEqual((await box.run(["touch", `${CHECKOUT}/dist/x`])).code, 0);
  assert.notEqual((await box.run(["sh", "-c", `echo x >>${NODE}`])).code, 0);
});

test("a command has its own input, user, variables, exit code and time", async (t) => {
  const box = await boot(t, { init: "sysv" });
  const outcome = await box.run(["sh", "-c", 'cat; id -un; id -Gn; echo "$WORD"; echo bad >&2; exit 7'], {
    ...{ user: "olaf", env: { WORD: "two words" }, input: "in\n" },
  });
  assert.deepEqual(outcome, { code: 7, stdout: "in\nolaf\nolaf adm\ntwo words\n", stderr: "bad\n" });
  assert.equal((await box.run(["sh", "-c", "kill -9 $$"])).code, 137);
  assert.equal((await box.run(["sleep", "60"], { timeout: 50 })).code, null);
  await until("it was killed", async () => (await box.run(["pgrep", "sleep"])).code === 1);
  await assert.rejects(box.do(["false"]), /^Error: false ended with 1/);
});

/** A process that boots a machine and does no more. */
async function start_owner(t: TestContext): Promise<{ owner: ChildProcess; holder: number; pid: number; cgroup: string }> {
  const module = join(dirname(fileURLToPath(import.meta.url)), "real-init.js");
  const text = `import { boot } from "${module}";
    const { pid, cgroup } = await boot({ after() {} }, { init: "systemd" });
    console.log(JSON.stringify({ pid, cgroup }));`;
  const owner = spawn(process.execPath, ["--input-type=module", "-e", text], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => owner.kill("SIGKILL"));
  for await (const line of createInterface({ input: owner.stdout as NodeJS.ReadableStream })) {
    const { pid, cgroup } = JSON.parse(line) as { pid: number; cgroup: string };
    return { owner, holder: Number(/-(\d+)$/.exec(cgroup)?.[1]), pid, cgroup };
  }
  throw new Error("it booted nothing");
}

test("nothing is left of a machine whose test was killed", async (t) => {
  const { owner, pid, cgroup } = await start_owner(t);
  const namespace = readlinkSync(`/proc/${pid}/ns/pid`);
  owner.kill("SIGKILL");
  await nothing_is_left(cgroup, namespace);
});

test("nothing runs on of a machine whose holder was killed, and the next one removes its cgroup", async (t) => {
  const { holder, pid, cgroup } = await start_owner(t);
  const namespace = readlinkSync(`/proc/${pid}/ns/pid`);
  process.kill(holder, "SIGKILL");
  await nothing_runs(namespace);
  await until("nobody has its number", () => !existsSync(`/proc/${holder}`));
  assert.ok(names_in(dirname(cgroup)).includes(cgroup.split("/").at(-1) as string));
  await boot(t, { init: "sysv" });
  assert.ok(!existsSync(cgroup));
});
