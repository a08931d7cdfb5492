/** Addresses as bind(2) takes them, and registrations as /proc tells them: read from bytes and text that a program chooses. */
import assert from "node:assert/strict";
import { endianness } from "node:os";
import { test } from "node:test";
import { constantFrom, assert as holds, property, uint8Array } from "fast-check";
import { parse_address } from "../../../client/exec/notice.js";
import { parse_epoll } from "../../../client/exec/replace.js";

const family = (number: number) => (endianness() === "LE" ? [number, 0] : [0, number]);

test("IPv4 and IPv6 addresses", () => {
  const v4 = [...family(2), 0, 80, 192, 0, 2, 1, ...Array(8).fill(0)];
  assert.deepEqual(parse_address(Uint8Array.from(v4)), { family: 2, address: "192.0.2.1", port: 80, scope: 0 });
  const v6 = [...family(10), 1, 187, 0, 0, 0, 0, 0x20, 1, 0x0d, 0xb8, ...Array(11).fill(0), 1];
  const found = { family: 10, address: "2001:db8::1", port: 443, scope: 0 };
  assert.deepEqual(parse_address(Uint8Array.from(v6)), found, "RFC 2133: without a scope");
  assert.deepEqual(parse_address(Uint8Array.from([...v6, 0, 0, 0, 0])), found);
  const scope = endianness() === "LE" ? [3, 0, 0, 0] : [0, 0, 0, 3];
  assert.equal(parse_address(Uint8Array.from([...v6, ...scope]))?.scope, 3);
});

test("what is too short or of another family is none, and no bytes throw", () => {
  for (const bytes of [
    [],
    [2],
    [...family(2), 0, 80],
    [...family(10), ...Array(20).fill(0)],
    [...family(1), ...Array(30).fill(65)],
  ])
    assert.equal(parse_address(Uint8Array.from(bytes)), undefined);
  holds(
    property(uint8Array({ maxLength: 128 }), constantFrom(2, 10), (bytes, kind) => {
      const framed = Uint8Array.from([...family(kind), ...bytes]);
      const found = parse_address(framed);
      assert.equal(found === undefined, framed.length < (kind === 2 ? 16 : 24));
      if (found !== undefined) assert.equal(found.port, (framed[2] as number) * 256 + (framed[3] as number));
    }),
  );
});

test("epoll registrations of one socket among others", () => {
  const info = `pos:\t0\nflags:\t02000002\nmnt_id:\t15\nino:\t1057
tfd:        5 events:       19 data: 123456789abcdef0  pos:0 ino:2f1a sdev:8
tfd:       12 events: 80000001 data: ffffffffffffffff  pos:0 ino:2f1a sdev:8
tfd:        6 events:       19 data:                6  pos:0 ino:2f1b sdev:8\n`;
  assert.deepEqual(parse_epoll(4, info, 0x2f1a), [
    { epoll: 4, number: 5, events: 0x19, data: 0x123456789abcdef0n },
    { epoll: 4, number: 12, events: 0x80000001, data: 0xffffffffffffffffn },
  ]);
  assert.deepEqual(parse_epoll(4, info, 0x2f1b)[0]?.data, 6n);
  assert.deepEqual(parse_epoll(4, "", 1), []);
});
