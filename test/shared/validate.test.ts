/** Findings told as JSON pointers, and the error convention. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { LowportError, message_of, refusal } from "../../shared/errors.js";
import { ERRORS, type ErrorName } from "../../shared/protocol.js";
import { describe } from "../../shared/validate.js";

for (const [finding, path, message] of [
  [{ keyword: "additionalProperties", params: { additionalProperty: "a/b~c" } }, "/x/a~1b~0c", "is not a known member"],
  [{ keyword: "required", params: { missingProperty: "port" } }, "/x/port", "is missing"],
  [{ keyword: "enum", params: { allowedValues: ["tcp", "udp"] } }, "/x", "must be one of tcp, udp"],
  [{ keyword: "type", params: {}, message: "must be string" }, "/x", "must be string"],
  [{ keyword: "other", params: {} }, "/x", "is wrong"],
] as const)
  test(`describes ${finding.keyword}`, () => assert.deepEqual(describe({ instancePath: "/x", ...finding }), { path, message }));

test("a refusal has the number of its name, its reason and what else is known", () => {
  for (const name of Object.keys(ERRORS) as ErrorName[]) {
    const error = refusal(name, "why", { max: 3 });
    assert.ok(error instanceof LowportError && error instanceof Error);
    assert.equal(error.number, ERRORS[name].code);
    assert.deepEqual(error.data, { code: name, reason: "why", max: 3 });
    assert.equal(error.message, "why");
  }
  const numbers = Object.values(ERRORS).map(({ code }) => code);
  assert.equal(new Set(numbers).size, numbers.length, "each name has a number of its own");
});

test("message_of anything thrown", () => {
  assert.equal(message_of(new Error("text")), "text");
  assert.deepEqual([undefined, null, "x", 5].map(message_of), ["undefined", "null", "x", "5"]);
});
