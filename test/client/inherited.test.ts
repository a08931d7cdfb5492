/**
 * Promise: only what LISTEN_PID and LISTEN_FDS name is ever taken, whatever else stands there. (That what fits is taken is
 * held end to end, by client-climbs-the-ladder.)
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { createServer } from "node:net";
import { beforeEach, test } from "node:test";
import * as fc from "fast-check";
import { type Fit, take_inherited } from "../../client/inherited.js";
import { native } from "../../shared/native.js";

/** A listening socket of this process, at whatever descriptor; and a range of LISTEN_FDS that covers it. */
async function listening(t: { after(done: () => void): void }) {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  t.after(() => server.close());
  const { port } = server.address() as { port: number };
  const fds = readdirSync("/proc/self/fd").map(Number);
  const fd = fds.find((one) => {
    const info = native().socketInfo(one);
    return typeof info !== "number" && info[2] === port;
  }) as number;
  return { port, fd, count: String(fd - 2) };
}

const take = (fit: Partial<Fit> & { port: number }) => take_inherited({ stream: true, address: undefined, ...fit });

beforeEach(() => {
  delete process.env["LISTEN_PID"];
  delete process.env["LISTEN_FDS"];
});

function set(pid: string, count: string): void {
  process.env["LISTEN_PID"] = pid;
  process.env["LISTEN_FDS"] = count;
}

test("what is named is taken, and only once", async (t) => {
  const { port, fd, count } = await listening(t);
  set(String(process.pid), count);
  assert.equal(take({ port, address: "127.0.0.2" }), undefined);
  assert.equal(take({ port: port + 1 }), undefined);
  assert.equal(take({ port, stream: false }), undefined);
  assert.equal(take({ port, family: 6 }), undefined);
  for (const address of ["::1", "::ffff:127.0.0.2", "fe80::1%lo"]) assert.equal(take({ port, address }), undefined);
  assert.equal(take({ port, address: "127.0.0.1", family: 4, ipv6Only: true }), fd);
  assert.equal(take({ port }), undefined);
});

test("without the variables, or with those of another process, nothing is", async (t) => {
  const { port, count } = await listening(t);
  assert.equal(take({ port }), undefined);
  process.env["LISTEN_FDS"] = count;
  assert.equal(take({ port }), undefined);
  for (const pid of ["", "0", "1", String(process.ppid), ` ${process.pid}x`, `${process.pid}.0`]) {
    set(pid, count);
    assert.equal(take({ port }), undefined, pid);
  }
});

test("a count that is none finds nothing", async (t) => {
  const { port, fd } = await listening(t);
  for (const count of ["", "0", "-1", "1.5", "abc", "1e999", "NaN", "0x", String(fd - 3)]) {
    set(String(process.pid), count);
    assert.equal(take({ port }), undefined, count);
  }
});

test("any text in the variables is survived", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.integer({ max: 5000 }).map(String)), (count) => {
      set(String(process.pid), count.replaceAll("\0", ""));
      assert.equal(take({ port: 1 }), undefined);
    }),
  );
});

test("a count beyond all descriptors is not counted to its end", () => {
  const module = new URL("../../client/inherited.js", import.meta.url).href;
  const code = `import { take_inherited } from ${JSON.stringify(module)};
    process.env.LISTEN_PID = String(process.pid);
    process.env.LISTEN_FDS = String(Number.MAX_SAFE_INTEGER);
    process.exitCode = take_inherited({ stream: true, port: 1 }) === undefined ? 0 : 1;`;
  const { status, signal } = spawnSync(process.execPath, ["--input-type=module", "--eval", code], { timeout: 10_000 });
  assert.deepEqual({ status, signal }, { status: 0, signal: null });
});
