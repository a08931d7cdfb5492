/** What is said to systemd, received by a real datagram socket (Node has none of that kind, so Python reads it). */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readdirSync } from "node:fs";
import { createInterface } from "node:readline";
import { after, type TestContext, test } from "node:test";
import { passed_descriptors, Systemd } from "../../helper/systemd.js";
import { keep_alive } from "../../shared/poll.js";
import { count_descriptors, temp_folder } from "../fixtures.js";

after(() => keep_alive(false));

/** Prints a JSON line for each datagram once it is told to read: its text, and what its descriptors are. Closes them. */
const RECEIVER = `
import json, os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1].replace("@", "\\0"))
print("ready", flush=True)
for _ in sys.stdin:
    text, fds, _, _ = socket.recv_fds(s, 4096, 8)
    print(json.dumps([text.decode()] + [os.readlink(f"/proc/self/fd/{fd}") for fd in fds]), flush=True)
    for fd in fds: os.close(fd)
`;

async function receive(t: TestContext, path: string) {
  const child = spawn("python3", ["-c", RECEIVER, path], { stdio: ["pipe", "pipe", "inherit"] });
  t.after(() => child.kill("SIGKILL"));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  assert.equal((await lines.next()).value, "ready");
  return async () => {
    child.stdin.write("\n");
    return JSON.parse((await lines.next()).value as string) as string[];
  };
}

test("messages arrive with their descriptors, by a path and by an abstract name", async (t) => {
  for (const path of [`${temp_folder()}/notify`, `@lowport-test-${process.pid}`]) {
    const next = await receive(t, path);
    const systemd = new Systemd(path);
    const fd = openSync("/dev/null", "r");
    systemd.notify("READY=1\nSTATUS=fine");
    systemd.notify("FDSTORE=1\nFDNAME=a", () => fd);
    assert.deepEqual(await next(), ["READY=1\nSTATUS=fine"]);
    assert.deepEqual(await next(), ["FDSTORE=1\nFDNAME=a", "/dev/null"]);
    closeSync(fd);
  }
});

test("what there is no room for waits and arrives in order; what ended meanwhile is left out", async (t) => {
  const path = `${temp_folder()}/notify`;
  const next = await receive(t, path);
  const systemd = new Systemd(path);
  const fd = openSync("/dev/null", "r");
  let ended = false;
  const many = 2000; // more than net.unix.max_dgram_qlen
  for (let i = 0; i < many; i++) systemd.notify(`N=${i}`, i === many - 1 ? () => (ended ? -1 : fd) : undefined);
  systemd.notify("LAST=1");
  ended = true;
  closeSync(fd);
  for (let i = 0; i < many - 1; i++) assert.deepEqual(await next(), [`N=${i}`]);
  assert.deepEqual(await next(), ["LAST=1"]);
});

test("a barrier falls when the other side has taken all that came before it, and leaves no descriptor", async (t) => {
  const folder = temp_folder();
  const path = `${folder}/notify`;
  const next = await receive(t, path);
  const systemd = new Systemd(path);
  const before = count_descriptors();
  let fallen = false;
  systemd.notify("FDSTOREREMOVE=1");
  const barrier = systemd.barrier(folder).then(() => (fallen = true));
  assert.deepEqual(await next(), ["FDSTOREREMOVE=1"]);
  assert.equal(fallen, false);
  assert.equal((await next())[0], "BARRIER=1");
  await barrier;
  assert.equal(count_descriptors(), before);
  assert.deepEqual(readdirSync(folder), ["notify"]);
});

test("a barrier that never falls is not waited for for ever", async (t) => {
  const folder = temp_folder();
  await receive(t, `${folder}/notify`);
  const before = count_descriptors();
  const systemd = new Systemd(`${folder}/notify`);
  await systemd.barrier(folder);
  assert.equal(count_descriptors(), before + 1);
});

test("without systemd all of it does nothing; a socket that is not there is an error", () => {
  const systemd = new Systemd("");
  assert.equal(systemd.present, false);
  systemd.notify("READY=1");
  assert.throws(() => new Systemd(`${temp_folder()}/nowhere`), /NOTIFY_SOCKET .*: ENOENT/);
});

test("the watchdog hears that the loop turns, if it is ours", async (t) => {
  const path = `${temp_folder()}/notify`;
  const next = await receive(t, path);
  const keep = setInterval(() => undefined, 1000);
  t.after(() => clearInterval(keep));
  const status = () => "fine";
  new Systemd(path).start_watchdog(status, { WATCHDOG_USEC: "10000", WATCHDOG_PID: "1" });
  new Systemd(path).start_watchdog(status, {});
  new Systemd(path).notify("FIRST=1");
  new Systemd(path).start_watchdog(status, { WATCHDOG_USEC: "20000", WATCHDOG_PID: String(process.pid) });
  assert.deepEqual(await next(), ["FIRST=1"]);
  for (let i = 0; i < 3; i++) assert.deepEqual(await next(), ["WATCHDOG=1\nSTATUS=fine"]);
});

test("passed descriptors go by their names, and only to the process that they are for", () => {
  const env = { LISTEN_FDS: "3", LISTEN_FDNAMES: "control:0123456789abcdef:x" };
  const named = new Map([
    ["control", 3],
    ["0123456789abcdef", 4],
    ["x", 5],
  ]);
  assert.deepEqual(passed_descriptors({ ...env, LISTEN_PID: String(process.pid) }), named);
  for (const other of [{ ...env, LISTEN_PID: "1" }, env, {}, { LISTEN_PID: String(process.pid) }])
    assert.deepEqual(passed_descriptors(other), new Map());
  const closed: number[] = [];
  const twice = { LISTEN_FDS: "3", LISTEN_FDNAMES: "control:x:control", LISTEN_PID: String(process.pid) };
  assert.equal(passed_descriptors(twice, (fd) => void closed.push(fd)).get("control"), 3, "the unit's own, which comes first");
  assert.deepEqual(closed, [5]);
  assert.equal(passed_descriptors({ ...env, LISTEN_FDS: "1", LISTEN_PID: String(process.pid) }).size, 1);
});

test("nothing of it keeps the process alive", async () => {
  const child = spawn(
    process.execPath,
    [
      "--input-type=module",
      "-e",
      `import { Systemd } from "${import.meta.resolve("../../helper/systemd.js")}"; new Systemd("").start_watchdog(() => "", { WATCHDOG_USEC: "1000000" });`,
    ],
    { stdio: "inherit" },
  );
  assert.deepEqual(await once(child, "exit"), [0, null]);
});
