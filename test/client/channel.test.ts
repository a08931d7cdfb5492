/**
 * Promise: messages and descriptors come out of a channel as they went in, however the stream was cut into pieces, and a
 * channel that ends keeps no descriptor.
 */
import assert from "node:assert/strict";
import { closeSync, mkdtempSync, openSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import * as fc from "fast-check";
import { Channel } from "../../client/channel.js";
import { LowportError } from "../../client/errors.js";
import { native } from "../../shared/native.js";
import { count_fds } from "./fake-helper.js";

const folder = mkdtempSync(join(tmpdir(), "lowport-channel-"));
const listener = native().openUnix(join(folder, "socket"), 8);
/** Files that a test passes, so that each descriptor can be told from the others. */
const files = ["a", "b", "c"].map((name) => {
  writeFileSync(join(folder, name), "");
  return openSync(join(folder, name), "r");
});
after(() => {
  for (const fd of [listener, ...files]) closeSync(fd);
  rmSync(folder, { recursive: true });
});

/** Both ends of a connection: a channel, and a bare descriptor. */
function connected(take = (message: unknown) => (message as { fds?: number }).fds ?? 0) {
  const got: { message: unknown; files: string[] }[] = [];
  const closed: LowportError[] = [];
  const channel = new Channel(native().openUnix(join(folder, "socket"), 0), {
    on_message: (message, take_fds) => {
      const fds = take_fds(take(message));
      got.push({ message, files: fds.map((fd) => readlinkSync(`/proc/self/fd/${fd}`).slice(-1)) });
      for (const fd of fds) closeSync(fd);
    },
    on_close: (error) => closed.push(error),
  });
  const peer = native().acceptUnix(listener);
  const send = (bytes: Buffer, fds: readonly number[] = []) =>
    assert.equal(native().send(peer, bytes, Int32Array.from(fds), fds.length), bytes.length);
  const end = new LowportError("ECONNABORTED", "close", "done");
  return { channel, got, closed, peer, send, end };
}

/** The kernel's queue is short for tiny pieces. */
async function send_patiently(peer: number, bytes: Buffer, fds: readonly number[]): Promise<void> {
  const send = () => native().send(peer, bytes, Int32Array.from(fds), fds.length);
  let sent = send();
  for (; sent === -constants.errno.EAGAIN; sent = send()) await turn();
  assert.equal(sent, bytes.length);
}

async function until(condition: () => boolean): Promise<void> {
  const end = performance.now() + 20_000;
  while (!condition()) {
    if (performance.now() > end) throw new Error("this did not come to pass");
    await turn();
  }
}

test("messages come whole and in order, each with its own descriptors, however the stream was cut", async () => {
  const first = connected(); // makes what is made once
  first.channel.close(first.end);
  closeSync(first.peer);
  const before = count_fds();
  const message = fc.record(
    { text: fc.string({ unit: "grapheme", maxLength: 200 }), fds: fc.nat({ max: 3 }) },
    { noNullPrototype: true },
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(message, { maxLength: 8 }),
      fc.array(fc.integer({ min: 1, max: 80 }), { minLength: 1 }),
      async (messages, sizes) => {
        const { channel, got, closed, peer, end } = connected();
        for (const one of messages) {
          let line = Buffer.from(`${JSON.stringify(one)}\n`);
          let fds = files.slice(0, one.fds);
          for (let i = 0; line.length > 0; i++) {
            const size = sizes[i % sizes.length] as number;
            await send_patiently(peer, line.subarray(0, size), fds);
            fds = [];
            line = line.subarray(size);
            if (size % 3 === 0) await turn();
          }
        }
        await until(() => got.length >= messages.length);
        assert.deepEqual(
          got,
          messages.map((one) => ({ message: one, files: ["a", "b", "c"].slice(0, one.fds) })),
        );
        assert.deepEqual(closed, []);
        channel.close(end);
        closeSync(peer);
      },
    ),
    { numRuns: 30 },
  );
  assert.equal(count_fds(), before);
});

test("what is sent leaves whole, even when the other end is slow to read", async () => {
  const { channel, peer, end } = connected();
  const sent = Array.from({ length: 40 }, (_, i) => ({ i, text: String(i % 10).repeat(50_000) }));
  for (const one of sent) channel.send(one);
  let text = "";
  const chunk = Buffer.alloc(65_536);
  while (text.split("\n").length <= sent.length) {
    const count = native().receive(peer, chunk);
    if (count > 0) text += chunk.toString("latin1", 0, count);
    else await turn();
  }
  assert.deepEqual(
    text
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line)),
    sent,
  );
  channel.close(end);
  closeSync(peer);
});

test("descriptors that no message has taken are closed with the channel; it says once why it closed", async () => {
  const before = count_fds();
  const { channel, got, closed, peer, send, end } = connected(() => 1);
  send(Buffer.from("{}\n"), files);
  await until(() => got.length === 1);
  assert.ok(count_fds() > before + 2);
  channel.close(end);
  channel.close(new LowportError("EIO", "close", "again"));
  channel.send({ too: "late" });
  closeSync(peer);
  assert.deepEqual(closed, [end]);
  assert.equal(count_fds(), before);
});

for (const [what, bytes, code] of [
  ["ends", undefined, "ECONNRESET"],
  ["sends what is no JSON", "{]\n", "EPROTO"],
  ["sends what is no UTF-8", '{"text":"\xff"}\n', "EPROTO"],
  ["sends what is no UTF-8, in pieces", '{"text":"|\xff"}\n', "EPROTO"],
  ["promises a descriptor that has not come", '{"fds":1}\n', "EPROTO"],
] as const)
  test(`the other end ${what}: the channel closes with ${code}`, async () => {
    const before = count_fds();
    const { got, closed, peer, send } = connected();
    send(Buffer.from('{"first":true}\n'));
    if (bytes === undefined) closeSync(peer);
    for (const piece of bytes?.split("|") ?? []) {
      send(Buffer.from(piece, "latin1"), []);
      await turn();
    }
    await until(() => closed.length > 0);
    assert.deepEqual(got[0], { message: { first: true }, files: [] });
    assert.equal(closed[0]?.code, code);
    if (bytes !== undefined) closeSync(peer);
    assert.equal(count_fds(), before);
  });
