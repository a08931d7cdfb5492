/** Who connected: the kernel's word, and what the overflow id means where not all ids are mapped. */
import assert from "node:assert/strict";
import { closeSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { overflow_id, read_peer } from "../../helper/peer.js";
import { native } from "../../shared/native.js";
import { DIST, needs_root, run_module, temp_folder } from "../fixtures.js";

const files = (map: string) => (file: string) => (file.endsWith("_map") ? map : "65534\n");

for (const [what, map, expected] of [
  ["the first user namespace", "         0          0 4294967295\n", undefined],
  ["two ranges that make all", "0 0 1000\n1000 1000 4294966295\n", undefined],
  ["a container's", "         0     100000      65536\n", 65534],
  ["one id", "0 1000 1\n", 65534],
  ["two ranges that do not make all", "0 0 1000\n2000 2000 4294965295\n", 65534],
  ["none yet", "", 65534],
] as const)
  test(`overflow id in ${what}`, () => assert.equal(overflow_id("uid", files(map)), expected));

test("overflow id reads the files of its kind", () => {
  const read: string[] = [];
  overflow_id("gid", (file) => {
    read.push(file);
    return files("0 0 1")(file);
  });
  assert.deepEqual(read, ["/proc/self/gid_map", "/proc/sys/kernel/overflowgid"]);
  const whole = readFileSync("/proc/self/uid_map", "utf8").includes("4294967295");
  assert.equal(overflow_id("uid") === undefined, whole);
});

test("where the kernel's word is hidden, it is the usual one", () => {
  const hidden = (file: string) => {
    if (!file.endsWith("_map")) throw new Error("ENOENT");
    return "0 100000 65536\n";
  };
  assert.equal(overflow_id("uid", hidden), 65534);
});

test("read_peer is this process, to itself", () => {
  const path = join(temp_folder(), "s");
  const listener = native().openUnix(path, 1);
  const client = native().openUnix(path, 0);
  const server = native().acceptUnix(listener);
  const { pid, uid, gid, unmapped } = read_peer(server);
  assert.deepEqual([pid, uid, gid, unmapped], [process.pid, process.getuid?.(), process.getgid?.(), undefined]);
  for (const fd of [listener, client, server]) closeSync(fd);
  assert.throws(() => read_peer(9999), /the kernel does not tell who connected: EBADF/);
});

test("an unmapped user is nobody, and its unmapped groups are none", { skip: needs_root }, () => {
  const folder = temp_folder();
  const source = `import { chmodSync } from "node:fs";
    import { spawnSync } from "node:child_process";
    import { native } from "${DIST}shared/native.js";
    import { read_peer } from "${DIST}helper/peer.js";
    const path = ${JSON.stringify(join(folder, "s"))};
    console.log(JSON.stringify(read_peer(native().acceptUnix(Number(process.argv[1] ?? 3)))));`;
  // The listener is made, and connected to as uid 1234, outside; the one who looks sees only uid 0 of all.
  const { stdout, stderr } = run_module(`import { chmodSync } from "node:fs";
    import { spawnSync } from "node:child_process";
    import { native } from "${DIST}shared/native.js";
    const path = ${JSON.stringify(join(folder, "s"))};
    const listener = native().openUnix(path, 5);
    for (const open of [path, ${JSON.stringify(folder)}]) chmodSync(open, 0o777);
    const connect = (uid, gid, groups) => {
      process.setgroups(groups); process.setegid(gid); process.seteuid(uid);
      native().openUnix(path, 0);
      process.seteuid(0); process.setegid(0); process.setgroups([]);
    };
    connect(1234, 0, []); connect(0, 1234, []); connect(0, 0, [0, 1234]);
    for (let i = 0; i < 3; i++) {
      const { stdout, stderr } = spawnSync("unshare", ["--user", "--map-root-user", process.execPath, "--input-type=module", "-e",
        ${JSON.stringify(source)}], { stdio: ["ignore", "pipe", "pipe", listener], encoding: "utf8" });
      process.stdout.write(stdout); process.stderr.write(stderr);
    }`);
  const [other_user, other_group, groups] = stdout.split("\n").map((line) => JSON.parse(line) as Record<string, unknown>);
  assert.deepEqual([other_user?.["uid"], other_user?.["unmapped"]], [65534, true], stderr);
  assert.deepEqual([other_group?.["gid"], other_group?.["unmapped"]], [65534, true]);
  assert.deepEqual([groups?.["uid"], groups?.["unmapped"], groups?.["groups"]], [0, undefined, [0]]);
});
