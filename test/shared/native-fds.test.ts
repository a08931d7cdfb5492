/** The addon's calls on Unix sockets: who is at the other end, and descriptors passed, counted and never leaked. */
import assert from "node:assert/strict";
import { closeSync, fstatSync, openSync, readFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { own_addon } from "../../client/own-addon.js";
import { MAX_FDS, native } from "../../shared/native.js";
import { count_descriptors, DIST, needs_root, run_module, temp_folder } from "../fixtures.js";

const { errno } = constants;
const NO_FDS = new Int32Array(0);

/** A connected pair of Unix sockets. */
function make_pair(): [number, number] {
  const path = join(temp_folder(), "s");
  const listener = native().openUnix(path, 1);
  const client = native().openUnix(path, 0);
  const server = native().acceptUnix(listener);
  closeSync(listener);
  assert.ok(client >= 0 && server >= 0);
  return [client, server];
}
const close_all = (fds: Iterable<number>) => [...fds].forEach((fd) => closeSync(fd));

for (const count of [0, 1, 2, MAX_FDS])
  test(`send and receiveWithFds: ${count} descriptors in one message, in order, usable and close-on-exec`, () => {
    const [client, server] = make_pair();
    const files = Array.from({ length: count }, () => openSync("/dev/zero", "r"));
    const numbers = files.map((_, i) => (i % 2 === 0 ? (files[i] as number) : client));
    const before = count_descriptors();
    const bytes = Buffer.from("a line\n");
    assert.equal(native().send(server, bytes, Int32Array.from(numbers), count), bytes.length);
    const memory = Buffer.alloc(100);
    const fds = new Int32Array(MAX_FDS + 1);
    assert.equal(own_addon().receiveWithFds(client, memory, fds), bytes.length);
    assert.equal(memory.toString("utf8", 0, bytes.length), "a line\n");
    const got = [...fds.subarray(1, 1 + (fds[0] as number))];
    assert.equal(got.length, count);
    assert.equal(count_descriptors(), before + count);
    for (const [i, fd] of got.entries()) {
      assert.equal(fstatSync(fd).isSocket(), i % 2 === 1, "in their order");
      assert.match(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"), /flags:\s*02[0-7]{6}\n/, "close-on-exec");
    }
    close_all([...got, ...files, client, server]);
  });

test("descriptors come with the first byte, however little is read", () => {
  const [client, server] = make_pair();
  native().send(server, Buffer.from("ab"), Int32Array.of(server), 1);
  const [one, fds] = [Buffer.alloc(1), new Int32Array(MAX_FDS + 1)];
  assert.deepEqual([own_addon().receiveWithFds(client, one, fds), one.toString(), fds[0]], [1, "a", 1]);
  closeSync(fds[1] as number);
  assert.deepEqual([own_addon().receiveWithFds(client, one, fds), one.toString(), fds[0]], [1, "b", 0]);
  close_all([client, server]);
});

test("receive drops descriptors and leaks none", () => {
  const [client, server] = make_pair();
  const before = count_descriptors();
  const memory = Buffer.alloc(10);
  for (let i = 0; i < 50; i++) {
    assert.equal(native().send(client, Buffer.from("x"), Int32Array.of(client, client), 2), 1);
    assert.equal(native().receive(server, memory), 1);
  }
  assert.equal(count_descriptors(), before);
  close_all([client, server]);
});

test("the end, nothing yet, a full queue and a peer that is gone are told apart", () => {
  const [client, server] = make_pair();
  const memory = Buffer.alloc(65_536);
  assert.equal(native().receive(server, memory), -errno.EAGAIN);
  assert.equal(own_addon().receiveWithFds(server, memory, new Int32Array(MAX_FDS + 1)), -errno.EAGAIN);
  let sent = 0;
  for (let n = 1; n > 0; sent += n) if ((n = native().send(server, memory, NO_FDS, 0)) < 0) break;
  assert.ok(sent > 0 && sent <= 65_536, "an accepted connection has a small buffer");
  assert.equal(native().send(server, memory, NO_FDS, 0), -errno.EAGAIN);
  closeSync(client);
  assert.equal(native().send(server, memory, NO_FDS, 0), -errno.EPIPE, "and no SIGPIPE");
  assert.equal(native().receive(server, memory), -errno.ECONNRESET);
  assert.equal(native().receive(server, memory), 0);
  closeSync(server);
});

test("counts that do not fit their array are -EINVAL", () => {
  const [client, server] = make_pair();
  const send = (length: number, count: number) =>
    native().send(server, Buffer.from("x"), new Int32Array(length).fill(server), count);
  assert.equal(send(1, 2), -errno.EINVAL);
  assert.equal(send(1, -1), -errno.EINVAL);
  assert.equal(send(MAX_FDS + 1, MAX_FDS + 1), -errno.EINVAL);
  assert.equal(native().send(server, Buffer.from("x"), Int32Array.of(9999), 1), -errno.EBADF);
  assert.equal(own_addon().receiveWithFds(client, Buffer.alloc(1), new Int32Array(MAX_FDS)), -errno.EINVAL);
  assert.equal(send(MAX_FDS + 1, 1), 1);
  assert.equal(native().receive(client, Buffer.alloc(1)), 1);
  close_all([client, server]);
});

test("descriptors that do not fit the limit: -EMFILE, and those that came are closed", () => {
  const { status, stdout, stderr } = run_module(
    `import { openSync, closeSync, readdirSync } from "node:fs";
     import { MAX_FDS, native } from "${DIST}shared/native.js";
     import { own_addon } from "${DIST}client/own-addon.js";
     const path = ${JSON.stringify(join(temp_folder(), "s"))};
     const listener = native().openUnix(path, 1);
     const client = native().openUnix(path, 0);
     const server = native().acceptUnix(listener);
     native().send(server, Buffer.from("x"), new Int32Array(5).fill(server), 5);
     const opened = [];
     try { for (;;) opened.push(openSync("/dev/null")); } catch {}
     for (const fd of opened.splice(0, 3)) closeSync(fd);
     const count = () => { let open = 0; for (let fd = 0; fd < 100; fd++) if (native().lockFile(fd) !== -9) open++; return open; };
     const before = count();
     const fds = new Int32Array(MAX_FDS + 1);
     console.log(own_addon().receiveWithFds(client, Buffer.alloc(9), fds), count() - before, fds[0]);`,
    ["prlimit", "--nofile=64"],
  );
  assert.equal(stdout, `${-errno.EMFILE} 0 0`, stderr);
  assert.equal(status, 0);
});

test("peerCredentials: this process, with its groups", () => {
  const [client, server] = make_pair();
  const out = new Int32Array(1028);
  const ids = out.subarray(0, native().peerCredentials(server, out));
  assert.deepEqual([...ids.subarray(0, 3)], [process.pid, process.getuid?.(), process.getgid?.()]);
  const own = readFileSync("/proc/self/status", "utf8");
  const groups = /^Groups:(.*)$/m.exec(own)?.[1]?.trim().split(" ").filter(Boolean).map(Number);
  assert.deepEqual(new Set(ids.subarray(3)), new Set(groups));
  assert.equal(native().peerCredentials(9999, out), -errno.EBADF);
  assert.equal(native().peerCredentials(server, new Int32Array(2)), -errno.EINVAL);
  close_all([client, server]);
});

for (const [count, room] of [
  [0, 0],
  [0, 9],
  [1, 1],
  [64, 65],
  [65, 65],
  [1000, 1000],
  [1000, 999],
  [2000, 1025],
] as const)
  test(`peerCredentials: ${count} supplementary groups, as they were at connect(), where ${room} fit`, {
    skip: needs_root,
  }, () => {
    const folder = temp_folder();
    const { stdout, stderr } = run_module(
      `import { chmodSync } from "node:fs";
       import { native } from "${DIST}shared/native.js";
       const path = ${JSON.stringify(join(folder, "s"))};
       const listener = native().openUnix(path, 1);
       for (const open of [path, ${JSON.stringify(folder)}]) chmodSync(open, 0o777); // for the other user
       process.setgroups(Array.from({ length: ${count} }, (_, i) => 4_000_000_000 + i));
       process.setegid(1234);
       process.seteuid(4_000_000_001);
       const fd = native().openUnix(path, 0);
       process.seteuid(0);
       process.setgroups([]);
       const out = new Int32Array(${3 + room} + 9).fill(-7);
       const told = native().peerCredentials(native().acceptUnix(listener), out.subarray(0, ${3 + room}));
       const [pid, uid, gid, ...groups] = Uint32Array.from(out.subarray(0, told));
       console.log(pid === process.pid, uid, gid, groups.length, groups.every((id, i) => id === 4_000_000_000 + i),
         out.subarray(told).every((rest) => rest === -7));`,
    );
    assert.equal(stdout, `true 4000000001 1234 ${Math.min(count, room)} true true`, stderr);
  });

test("openUnix: -errno for what is not there, not listening, too long or taken", () => {
  const path = join(temp_folder(), "s");
  assert.equal(native().openUnix(path, 0), -errno.ENOENT);
  const listener = native().openUnix(path, 1);
  assert.equal(native().openUnix(path, 1), -errno.EADDRINUSE);
  assert.equal(native().acceptUnix(listener), -errno.EAGAIN);
  closeSync(listener);
  assert.equal(native().openUnix(path, 0), -errno.ECONNREFUSED);
  assert.throws(() => native().openUnix("x".repeat(108), 0), TypeError);
});
