/** The outer form of messages: nothing makes read_message throw, and only well-formed requests come out as requests. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { type Element, read_message } from "../../helper/envelope.js";
import { NOT_UTF8 } from "../../shared/framing.js";
import { INVALID_REQUEST, MAX_BATCH, MAX_ID_LENGTH, PARSE_ERROR } from "../../shared/protocol.js";

const only = (text: string): Element => {
  const { elements } = read_message(text);
  assert.equal(elements.length, 1);
  return elements[0] as Element;
};
const fault_number = (element: Element) => ("fault" in element ? element.fault.number : undefined);

for (const [text, number, id] of [
  ['{"jsonrpc":"2.0","method":"x","id":1}', undefined, 1],
  ['{"jsonrpc":"2.0","method":"x"}', undefined, undefined],
  ['{"jsonrpc":"2.0","method":"","params":{},"id":""}', undefined, ""],
  ['{"jsonrpc":"2.0","method":"x","params":[],"id":0}', undefined, 0],
  [' {"jsonrpc":"2.0","method":"x","id":-9007199254740991}\r', undefined, -9007199254740991],
  ["", PARSE_ERROR, undefined],
  ["{", PARSE_ERROR, undefined],
  ["\ufeff{}", PARSE_ERROR, undefined],
  ["null", INVALID_REQUEST, undefined],
  ["1", INVALID_REQUEST, undefined],
  ['"x"', INVALID_REQUEST, undefined],
  ["[]", INVALID_REQUEST, undefined],
  ["{}", INVALID_REQUEST, undefined],
  ['{"jsonrpc":"1.0","method":"x","id":5}', INVALID_REQUEST, 5],
  ['{"jsonrpc":"2.0","method":7,"id":"a"}', INVALID_REQUEST, "a"],
  ['{"jsonrpc":"2.0","method":"x","id":null}', INVALID_REQUEST, undefined],
  ['{"jsonrpc":"2.0","method":"x","id":1.5}', INVALID_REQUEST, undefined],
  ['{"jsonrpc":"2.0","method":"x","id":9007199254740992}', INVALID_REQUEST, undefined],
  ['{"jsonrpc":"2.0","method":"x","id":true}', INVALID_REQUEST, undefined],
  ['{"jsonrpc":"2.0","method":"x","params":null,"id":1}', INVALID_REQUEST, 1],
  ['{"jsonrpc":"2.0","method":"x","params":"a","id":1}', INVALID_REQUEST, 1],
  ['{"jsonrpc":"2.0","method":"x","id":1,"uid":0}', INVALID_REQUEST, 1],
  ['{"jsonrpc":"2.0","method":"x","id":1,"__proto__":{"a":1}}', INVALID_REQUEST, 1],
  ['{"__proto__":{"jsonrpc":"2.0","method":"x","id":1}}', INVALID_REQUEST, undefined],
] as const)
  test(`reads ${text}`, () => {
    const element = only(text);
    assert.equal(fault_number(element), number);
    assert.equal("request" in element ? element.request.id : element.id, id);
  });

test("a string id may have 128 characters and no more", () => {
  const with_id = (length: number) => only(`{"jsonrpc":"2.0","method":"x","id":"${"i".repeat(length)}"}`);
  assert.equal(fault_number(with_id(MAX_ID_LENGTH)), undefined);
  assert.equal(fault_number(with_id(MAX_ID_LENGTH + 1)), INVALID_REQUEST);
});

test("bytes that are not UTF-8 are a parse error", () => {
  const { elements } = read_message(NOT_UTF8);
  assert.equal(fault_number(elements[0] as Element), PARSE_ERROR);
});

test("a batch is answered element by element, up to its limit", () => {
  const batch = (count: number) => read_message(`[${Array(count).fill('{"jsonrpc":"2.0","method":"x","id":1}').join(",")}]`);
  assert.equal(batch(1).batch, true);
  assert.equal(batch(MAX_BATCH).elements.length, MAX_BATCH);
  assert.ok(batch(MAX_BATCH).elements.every((element) => "request" in element));
  const many = batch(MAX_BATCH + 1);
  assert.deepEqual([many.batch, many.elements.length, fault_number(many.elements[0] as Element)], [false, 1, INVALID_REQUEST]);
  const mixed = read_message('[null,{"jsonrpc":"2.0","method":"x","id":2},[]]');
  assert.deepEqual(mixed.elements.map(fault_number), [INVALID_REQUEST, undefined, INVALID_REQUEST]);
  assert.equal(mixed.batch, true);
});

test("a line of nothing but brackets is survived", () => {
  assert.equal(fault_number(only("[".repeat(65_536))), PARSE_ERROR);
  assert.equal(fault_number(only(`${"[".repeat(30_000)}${"]".repeat(30_000)}`)), INVALID_REQUEST);
});

/** What the protocol says a request is, the long way. */
function is_request(value: unknown): boolean {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const members = new Map(Object.entries(value));
  const id = members.get("id");
  const params = members.get("params");
  return (
    members.get("jsonrpc") === "2.0" &&
    typeof members.get("method") === "string" &&
    [...members.keys()].every((member) => ["jsonrpc", "method", "params", "id"].includes(member)) &&
    (!members.has("params") || (typeof params === "object" && params !== null)) &&
    (!members.has("id") ||
      (typeof id === "string" && id.length <= 128) ||
      (typeof id === "number" && Number.isInteger(id) && Math.abs(id) <= 2 ** 53 - 1))
  );
}

const request_like = fc.record(
  {
    jsonrpc: fc.oneof({ weight: 9, arbitrary: fc.constant("2.0") }, fc.jsonValue()),
    method: fc.oneof({ weight: 9, arbitrary: fc.string() }, fc.jsonValue()),
    id: fc.oneof(fc.string(), fc.maxSafeInteger(), fc.double(), fc.jsonValue()),
    params: fc.oneof(fc.object(), fc.jsonValue()),
    more: fc.jsonValue(),
  },
  { requiredKeys: ["jsonrpc", "method"] },
);

test("any JSON: only well-formed requests come out as requests", () => {
  const any_value = fc.oneof(request_like, fc.jsonValue(), fc.array(request_like, { maxLength: 20 }));
  fc.assert(
    fc.property(any_value, (value) => {
      const text = JSON.stringify(value);
      const parsed: unknown = JSON.parse(text);
      const { batch, elements } = read_message(text);
      const whole = Array.isArray(parsed) && parsed.length > 0 && parsed.length <= MAX_BATCH;
      assert.equal(batch, whole);
      const values: unknown[] = whole ? parsed : [parsed];
      assert.deepEqual(
        elements.map((element) => "request" in element),
        values.map(is_request),
      );
      for (const [i, element] of elements.entries())
        if ("request" in element) assert.deepEqual(element.request, values[i]);
        else assert.equal(element.fault.number, INVALID_REQUEST);
    }),
    { numRuns: 1000 },
  );
});

test("any text: a message comes out and nothing is thrown", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string({ unit: "binary" }), fc.json()), (text) => {
      assert.ok(read_message(text).elements.length > 0);
    }),
    { numRuns: 1000 },
  );
});
