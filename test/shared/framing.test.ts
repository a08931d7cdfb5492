/** Lines out of bytes, however they are cut; with limits to the byte, and with the caller's memory used again. */
import assert from "node:assert/strict";
import { isUtf8 } from "node:buffer";
import { test } from "node:test";
import * as fc from "fast-check";
import { type Line, LineReader, NOT_UTF8, TOO_LONG } from "../../shared/framing.js";
import { MAX_LINE_BYTES } from "../../shared/protocol.js";

/** Feeds `bytes` cut at `cuts` through one buffer that is overwritten after each keep(). */
function lines_of(bytes: Buffer, cuts: readonly number[], max?: number, take = Number.POSITIVE_INFINITY): Line[] {
  const reader = new LineReader(max);
  const memory = Buffer.alloc(bytes.length + 1);
  const lines: Line[] = [];
  const ends = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].toSorted((a, b) => a - b);
  let from = 0;
  const drain = (most: number) => {
    for (let i = 0; i < most; i++) {
      const line = reader.next();
      if (line === undefined) return;
      lines.push(line);
      if (line === TOO_LONG) return;
    }
  };
  for (const end of [...ends, bytes.length]) {
    const length = bytes.copy(memory, 0, from, end);
    reader.push(memory, length);
    from = end;
    drain(take);
    reader.keep();
    memory.fill(10); // whatever is still borrowed would fall apart into lines
  }
  drain(Number.POSITIVE_INFINITY);
  return lines;
}

const any_line = fc
  .oneof(
    fc.uint8Array({ maxLength: 20 }),
    fc
      .string({ unit: fc.constantFrom("a", "é", "\ufffd", "𝄞"), maxLength: 20 })
      .map((text) => Uint8Array.from(Buffer.from(text))),
  )
  .map((bytes) => bytes.map((byte) => (byte === 10 ? 11 : byte)));

test("any split of a stream into chunks gives the same lines", () => {
  fc.assert(
    fc.property(fc.array(any_line, { maxLength: 8 }), any_line, fc.array(fc.nat()), fc.nat(3), (lines, rest, cuts, take) => {
      const bytes = Buffer.concat([...lines.flatMap((line) => [line, Buffer.from("\n")]), rest]);
      const expected = lines.map((line) => (isUtf8(line) ? Buffer.from(line).toString() : NOT_UTF8));
      assert.deepEqual(lines_of(bytes, cuts), expected);
      assert.deepEqual(lines_of(bytes, cuts, undefined, take), expected, "also where lines wait over several reads");
    }),
    { numRuns: 500 },
  );
});

for (const max of [8, MAX_LINE_BYTES])
  test(`a line of max-1 and max bytes is one, of max+1 too long (max ${max})`, () => {
    for (const cuts of [[], [1], [max - 1], [max], [max + 1], [3, max]]) {
      const line = (length: number) => Buffer.from(`${"x".repeat(length)}\n`);
      for (const length of [max - 1, max])
        assert.deepEqual(lines_of(line(length), cuts, max), ["x".repeat(length)], `${length} cut at ${cuts.join()}`);
      assert.equal(lines_of(line(max + 1), cuts, max)[0], TOO_LONG, `${max + 1} cut at ${cuts.join()}`);
    }
  });

const push = (reader: LineReader, text: string) => reader.push(Buffer.from(text), Buffer.byteLength(text));

test("too long is said before the newline comes, and lines before it are given first", () => {
  const reader = new LineReader(4);
  push(reader, "ab\n12345");
  assert.equal(reader.next(), "ab");
  assert.equal(reader.next(), TOO_LONG);
});

test("a line's bytes are told, and of one that is too long as many as it may have, however many have come", () => {
  for (const [text, line, bytes] of [
    ["é\n", "é", 2],
    ["\n", "", 0],
    ["12345", TOO_LONG, 4],
    ["123456789\n", TOO_LONG, 4],
  ] as const) {
    const reader = new LineReader(4);
    push(reader, text);
    assert.deepEqual([reader.next(), reader.taken], [line, bytes]);
  }
});

test("an unfinished line of max bytes is waited for", () => {
  const reader = new LineReader(4);
  push(reader, "1234");
  assert.equal(reader.next(), undefined);
  assert.equal(reader.waiting, 4);
  reader.keep();
  push(reader, "\n");
  assert.equal(reader.next(), "1234");
  assert.equal(reader.waiting, 0);
});

test("the default limit is the protocol's", () => {
  const reader = new LineReader();
  push(reader, "A".repeat(MAX_LINE_BYTES));
  assert.equal(reader.next(), undefined);
  push(reader, "A");
  assert.equal(reader.next(), TOO_LONG);
});
