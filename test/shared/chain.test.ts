/** The hash chain's links: what seal made unseal takes apart, and no byte can be changed without its notice. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import * as fc from "fast-check";
import { FIRST_PREV, seal, unseal } from "../../shared/chain.js";

const record = fc.record({ seq: fc.nat(), text: fc.string({ unit: "binary" }), prev: fc.constant(FIRST_PREV) });

test("hash is the SHA-256 of the line's own bytes with its member taken out", () => {
  const { line, hash } = seal('{"seq":1,"prev":"x"}');
  assert.equal(line, `{"seq":1,"prev":"x","hash":"${hash}"}`);
  assert.equal(hash, createHash("sha256").update('{"seq":1,"prev":"x"}').digest("hex"));
  assert.equal(line.replace(`,"hash":"${hash}"`, ""), '{"seq":1,"prev":"x"}');
  assert.match(FIRST_PREV, /^0{64}$/);
});

test("what was sealed unseals to the same", () => {
  fc.assert(
    fc.property(record, (value) => {
      const { line, hash } = seal(JSON.stringify(value));
      const found = unseal(Buffer.from(line));
      assert.deepEqual(found, { seq: value.seq, hash, prev: value.prev, record: JSON.parse(JSON.stringify(value)) });
    }),
  );
});

test("any one-byte change is found", () => {
  fc.assert(
    fc.property(record, fc.nat(), fc.integer({ min: 1, max: 255 }), (value, at, change) => {
      const bytes = Buffer.from(seal(JSON.stringify(value)).line);
      const i = at % bytes.length;
      bytes[i] = (bytes[i] as number) ^ change;
      assert.equal(unseal(bytes), undefined);
    }),
    { numRuns: 1000 },
  );
});

test("any byte taken out or added is found", () => {
  fc.assert(
    fc.property(record, fc.nat(), (value, at) => {
      const { line } = seal(JSON.stringify(value));
      const i = at % line.length;
      assert.equal(unseal(Buffer.from(line.slice(0, i) + line.slice(i + 1))), undefined);
      assert.equal(unseal(Buffer.from(`${line.slice(0, i)} ${line.slice(i)}`)), undefined);
    }),
  );
});

test("a line that hashes right but is no record is none", () => {
  for (const body of ["{}", '{"seq":"1","prev":"x"}', '{"seq":1}', "null}", '{"seq":1,"prev":"x"'])
    assert.equal(unseal(Buffer.from(seal(body).line)), undefined, body);
  assert.equal(unseal(Buffer.alloc(0)), undefined);
});
