/** The addon of `lowport exec`: wrong arguments are a TypeError or an errno, and never the end of the process. */
import assert from "node:assert/strict";
import { closeSync, openSync } from "node:fs";
import net from "node:net";
import { constants } from "node:os";
import { test } from "node:test";
import { exec_native } from "../../../client/exec/native.js";

const skip = process.platform === "linux" ? false : "Linux only";
const { EINVAL, EBADF, ENOTTY, ENOTSOCK } = constants.errno;

test("each method refuses arguments of another number or type", { skip }, () => {
  const native = exec_native() as unknown as Record<string, (...args: unknown[]) => unknown>;
  const names = Object.keys(native).filter((name) => name !== "trapBind");
  assert.ok(names.length > 10);
  for (const name of names)
    for (const args of [
      [],
      ["x"],
      [Number.NaN, new Uint8Array(80)],
      [1e12, 1, 1, 1, 1],
      [{}, {}, {}, {}, {}],
      [null],
      [new Float64Array(4)],
    ])
      assert.throws(() => native[name]?.(...args), TypeError, `${name}(${JSON.stringify(args)})`);
});

test("a notice of another size, a descriptor that is none", { skip }, () => {
  const native = exec_native();
  const null_fd = openSync("/dev/null", "r+");
  const out = new Int32Array(9);
  assert.equal(native.receiveNotice(0, new Uint8Array(79)), -EINVAL);
  assert.equal(native.noticeIsValid(0, new Uint8Array(81)), -EINVAL);
  assert.equal(native.answerNotice(0, new Uint8Array(0), 0), -EINVAL);
  assert.equal(native.placeFd(0, new Uint8Array(1), 0, 0, 0), -EINVAL);
  assert.equal(native.readAddress(new Uint8Array(1), new Uint8Array(1)), -EINVAL);
  assert.equal(native.receiveNotice(null_fd, new Uint8Array(80)), -ENOTTY);
  assert.equal(native.noticeIsValid(-1, new Uint8Array(80)), -EBADF);
  assert.equal(native.describeSocket(null_fd, out), -ENOTSOCK);
  assert.equal(native.describeSocket(null_fd, new Int32Array(8)), -EINVAL);
  assert.equal(native.setBlocking(-1, 1), -EBADF);
  assert.equal(native.moveEpoll(new Int32Array(6)), -EINVAL);
  assert.ok(native.moveEpoll(Int32Array.of(null_fd, 900, null_fd, null_fd, 1, 0, 0)) < 0);
  assert.equal(native.takeFd(-1, -1, 0), -EINVAL);
  assert.equal(native.become(Buffer.from(""), Buffer.from(""), new Int32Array(0), new Int32Array(0), new Int32Array(6)), -EINVAL);
  assert.equal(native.startApart(Buffer.from("/bin/true\0"), Buffer.from("")) >= 0, true);
  closeSync(null_fd);
});

test("an own descriptor taken, a socket described", { skip }, async () => {
  const native = exec_native();
  const server = net.createServer().listen(0, "127.0.0.1");
  await new Promise((listening) => server.once("listening", listening));
  const { fd } = (server as unknown as { _handle: { fd: number } })._handle;
  const copy = native.takeFd(process.pid, process.pid, fd);
  const out = new Int32Array(9);
  assert.equal(native.describeSocket(copy, out), 0);
  assert.deepEqual([...out.subarray(0, 6)], [2, 1, 6, 0, 0, (server.address() as net.AddressInfo).port]);
  assert.equal(out[8], 1);
  closeSync(copy);
  server.close();
});
