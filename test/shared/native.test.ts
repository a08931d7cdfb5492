/** The addon's calls on internet sockets and files; what it does with descriptors over Unix sockets is in native-fds.test.ts. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import { constants } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { inspect } from "node:util";
import * as fc from "fast-check";
import { errno_name, type Native, native, type SocketInfo } from "../../shared/native.js";
import { count_descriptors, DIST, free_port, needs_root, run_module, temp_folder } from "../fixtures.js";

const { errno } = constants;
const fresh = native();

test("wrong arguments throw a TypeError and never crash", () => {
  const { status, signal, stdout, stderr } = run_module(`
    import fc from "${import.meta.resolve("fast-check")}";
    import { native } from "${DIST}shared/native.js";
    process.chdir(${JSON.stringify(temp_folder())});
    const calls = native();
    // Numbers that may pass for a descriptor are none of this process.
    const number = fc.oneof(fc.integer({ max: -1 }), fc.integer({ min: 5000 }), fc.double().filter((x) => !(x >= 0 && x < 5000)));
    const detached = () => { const view = new Uint8Array(8); structuredClone(view, { transfer: [view.buffer] }); return view; };
    const arbitrary = fc.oneof(
      fc.constantFrom(undefined, null, NaN, Infinity, -0.5, 2 ** 31, 2 ** 32, 2 ** 53, 10n, Symbol("x"), "", "x\\0y", "::1", "127.0.0.1"),
      fc.constantFrom(new Uint8Array(0), new Uint8Array(8), new Int32Array(0), new Int32Array(300), new Float64Array(2),
        new Uint8Array(new SharedArrayBuffer(8)), new DataView(new ArrayBuffer(8)), new ArrayBuffer(8), detached(), {}, []),
      fc.boolean(), number, fc.string(), fc.string({ unit: "binary", maxLength: 300 }), fc.constant(() => 1),
      fc.constant({ valueOf() { throw new Error("valueOf was called"); }, toString() { throw new Error("toString was called"); } }));
    let refused = 0;
    for (const name of Object.keys(calls).filter((name) => !["lockDown", "forbidIoUring"].includes(name) && !name.startsWith("poll")))
      fc.assert(fc.property(fc.array(arbitrary, { maxLength: 7 }), (args) => {
        try {
          const result = calls[name](...args);
          if (typeof result === "number" && result >= 0 && args.length < 1) throw new Error(name + " took no arguments");
        } catch (error) {
          if (!(error instanceof TypeError)) throw error;
          refused++;
        }
      }), { numRuns: 400 });
    for (const args of [[], ["1", 1, true], [1, 1, 1], [1, 1], [1.5, 1, false], [-2147483649, 1, true]])
      try { calls.lockDown(...args); process.exit(3); } catch (error) { if (!(error instanceof TypeError)) throw error; }
    console.log(refused > 1000);`);
  assert.deepEqual([status, signal, stdout], [0, null, "true"], stderr);
});

for (const [name, args] of Object.entries({
  bindSocket: [true, "127.0.0.1", 0, false, false, 1],
  openUnix: ["/nowhere", 0],
  socketInfo: [-1],
  revokeSocket: [-1],
  lockFile: [-1],
  appendText: [-1, "x"],
  acceptUnix: [-1],
  peerCredentials: [-1, new Int32Array(3)],
  receive: [-1, new Uint8Array(1)],
  send: [-1, new Uint8Array(1), new Int32Array(0), 0],
}))
  test(`${name} takes each of its arguments and its type alone`, () => {
    const call = fresh[name as keyof Native] as (...all: unknown[]) => unknown;
    const result = call(...args);
    if (name === "bindSocket") closeSync(result as number);
    else assert.equal(result, name === "openUnix" ? -errno.ENOENT : -errno.EBADF);
    for (let i = 0; i < args.length; i++) {
      assert.throws(() => call(...args.slice(0, i)), TypeError, `${i} arguments`);
      for (const wrong of [null, {}, Symbol("x"), 0.5, new Float32Array(1)])
        assert.throws(() => call(...(args as unknown[]).with(i, wrong)), TypeError, `argument ${i}: ${inspect(wrong)}`);
    }
  });

test("bindSocket: tcp and udp, IPv4, IPv6 and both, listening or not", () => {
  for (const stream of [true, false])
    for (const [address, only] of [
      ["127.0.0.1", false],
      ["0.0.0.0", false],
      ["::1", true],
      ["::", true],
      ["::", false],
    ] as const)
      for (const backlog of [0, 5]) {
        const fd = native().bindSocket(stream, address, 0, only, false, backlog);
        const [is_stream, listening, port, bound, v6only] = native().socketInfo(fd) as SocketInfo;
        const expected = [stream, stream && backlog > 0, address, only];
        assert.deepEqual([is_stream === 1, listening === 1, bound, v6only === 1], expected);
        assert.ok(port > 0);
        const flags = Number.parseInt(/flags:\s*(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1] ?? "", 8);
        assert.equal(flags & 0o2004000, 0o2004000, "close-on-exec and non-blocking");
        closeSync(fd);
      }
});

test("bindSocket: what the kernel or the arguments forbid is -errno, and nothing stays open", () => {
  const taken = native().bindSocket(true, "127.0.0.1", 0, false, false, 1);
  const port = (native().socketInfo(taken) as SocketInfo)[2];
  const before = count_descriptors();
  const bind = (address: string, at = 0) => native().bindSocket(true, address, at, false, false, 1);
  assert.equal(bind("127.0.0.1", port), -errno.EADDRINUSE);
  assert.equal(bind("192.0.2.1"), -errno.EADDRNOTAVAIL);
  for (const address of ["", "localhost", "127.1", "::1%lo", "1.2.3.4 "]) assert.equal(bind(address), -errno.EINVAL, address);
  for (const bad of [-1, 65_536, 2 ** 31 - 1]) assert.equal(bind("127.0.0.1", bad), -errno.EINVAL);
  assert.throws(() => bind("1".repeat(46)), TypeError);
  assert.throws(() => bind("127.0.0.1\0"), TypeError);
  assert.equal(count_descriptors(), before);
  closeSync(taken);
});

test("bindSocket: random arguments give a descriptor of just that socket, or -errno", () => {
  const address = fc.oneof(fc.ipV4(), fc.ipV6(), fc.constantFrom("127.0.0.1", "::1", "::", "0.0.0.0"));
  const before = count_descriptors();
  fc.assert(
    fc.property(fc.boolean(), address, fc.boolean(), fc.boolean(), fc.integer(), (stream, text, only, reuse, backlog) => {
      const fd = native().bindSocket(stream, text, 0, only, reuse, backlog);
      if (fd < 0) return;
      const info = native().socketInfo(fd) as SocketInfo;
      closeSync(fd);
      assert.deepEqual([info[0] === 1, info[1] === 1], [stream, stream && backlog > 0]);
    }),
  );
  assert.equal(count_descriptors(), before);
});

test("socketInfo: what is no internet socket is told apart", () => {
  assert.equal(native().socketInfo(9999), -errno.EBADF);
  const file = openSync("/dev/null", "r");
  assert.equal(native().socketInfo(file), -errno.ENOTSOCK);
  closeSync(file);
  const unix = native().openUnix(join(temp_folder(), "s"), 1);
  assert.equal(native().socketInfo(unix), -errno.EAFNOSUPPORT);
  closeSync(unix);
  assert.equal(errno_name(-errno.EACCES), "EACCES");
});

const connects = (port: number) =>
  new Promise<boolean>((resolve) => {
    const socket = connect({ port, host: "127.0.0.1" });
    const end = (yes: boolean) => {
      socket.destroy();
      resolve(yes);
    };
    socket.once("connect", () => end(true)).once("error", () => end(false));
    socket.setTimeout(300, () => end(false)); // dropped by the filter: no answer at all
  });

/** A program that holds a copy of `fd` (as its descriptor 3) and tries to get it working again. */
const holder = (fd: number, source: string) =>
  new Promise<string>((resolve) => {
    const child = spawn("python3", ["-c", `import socket,struct,ctypes\ns=socket.socket(fileno=3)\n${source}`], {
      stdio: ["ignore", "pipe", "inherit", fd],
    });
    let text = "";
    child.stdout?.on("data", (data) => (text += data)).on("end", () => resolve(text.trim()));
  });
const ATTEMPTS = `
def attempt(call):
    try: call(); print("ok", end=" ")
    except OSError as error: print(error.errno, end=" ")
attempt(lambda: s.setsockopt(socket.SOL_SOCKET, 27, 0))
attempt(lambda: s.setsockopt(socket.SOL_SOCKET, 44, 0))
accept_all = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0xffffffff))
attempt(lambda: s.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HL", 1, ctypes.addressof(accept_all))))
`;

test("revokeSocket: a TCP listener is dead, and its holder cannot undo it", async () => {
  const port = free_port();
  const fd = native().bindSocket(true, "127.0.0.1", port, false, false, 5);
  assert.equal(await connects(port), true);
  assert.equal(native().revokeSocket(fd), 0);
  assert.equal((native().socketInfo(fd) as SocketInfo)[1], 0);
  assert.equal(await connects(port), false);
  assert.equal(await holder(fd, `${ATTEMPTS}\ns.listen(5)`), `${errno.EPERM} ${errno.EPERM} ${errno.EPERM}`);
  assert.equal(await connects(port), false, "though it listens again");
  closeSync(fd);
});

test("revokeSocket: a UDP socket gets nothing any more", async () => {
  const port = free_port(false);
  const fd = native().bindSocket(false, "127.0.0.1", port, false, false, 0);
  const receive = `s.settimeout(0.2)
c=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); c.sendto(b"x",("127.0.0.1",${port}))
try: print("got", s.recv(9))
except OSError: print("none")`;
  assert.equal(await holder(fd, receive), "got b'x'");
  assert.equal(native().revokeSocket(fd), 0);
  const eperm = errno.EPERM;
  assert.equal(await holder(fd, `${ATTEMPTS}\n${receive}`), `${eperm} ${eperm} ${eperm} none`);
  closeSync(fd);
});

const LOCK = "s.setsockopt(socket.SOL_SOCKET,44,1)";
const TO_LO = "s.setsockopt(socket.SOL_SOCKET,62,1)";

for (const [what, prepared] of Object.entries({ "a filter": LOCK, "a device": TO_LO }))
  test(`revokeSocket: a holder that has prepared against ${what} alone does not prevent it`, async () => {
    const fd = native().bindSocket(true, "127.0.0.1", 0, false, false, 5);
    assert.equal(await holder(fd, `${prepared}; print("prepared")`), "prepared");
    // As root an attached filter is another way; without root only one is left.
    const expected = what === "a device" && needs_root !== false ? -errno.EPERM : 0;
    assert.equal(native().revokeSocket(fd), expected);
    assert.equal((native().socketInfo(fd) as SocketInfo)[1], expected === 0 ? 0 : 1);
    closeSync(fd);
  });

test("revokeSocket: -EPERM if the holder has prepared against both, and then nothing is shut down", async () => {
  const fd = native().bindSocket(true, "127.0.0.1", 0, false, false, 5);
  assert.equal(await holder(fd, `${LOCK}; ${TO_LO}; print("prepared")`), "prepared");
  const result = native().revokeSocket(fd);
  // Root (CAP_NET_RAW) binds it to another device all the same.
  assert.equal(result, needs_root === false ? 0 : -errno.EPERM);
  assert.equal((native().socketInfo(fd) as SocketInfo)[1], result === 0 ? 0 : 1);
  closeSync(fd);
});

test("lockFile: one process at a time, until its descriptor closes", () => {
  const path = join(temp_folder(), "lock");
  const fd = openSync(path, "w");
  assert.equal(native().lockFile(fd), 0);
  assert.equal(native().lockFile(fd), 0, "again by the same");
  const other = () =>
    run_module(`import { openSync } from "node:fs"; import { native } from "${DIST}shared/native.js";
      console.log(native().lockFile(openSync(${JSON.stringify(path)}, "r")));`).stdout;
  assert.equal(other(), String(-errno.EWOULDBLOCK));
  closeSync(fd);
  assert.equal(other(), "0");
});
