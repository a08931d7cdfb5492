/** What makes code of strings is refused, and nothing else is. */
import assert from "node:assert/strict";
import { test } from "node:test";
import "../../helper/no-eval.js";

const refused = { name: "EvalError", message: "lowportd makes no code of strings" };
const GLOBALS = ["eval", "Function"] as const;
const KINDS: Record<string, object> = {
  function: function () {},
  arrow: () => {},
  async: async () => {},
  generator: function* () {},
  "async generator": async function* () {},
  class: Map,
  "built in": Math.max,
  bound: Math.max.bind(undefined),
};
const prototypes = Object.values(KINDS).map((kind) => Object.getPrototypeOf(kind) as { constructor: () => unknown });

test("eval and Function are refused, called or constructed", () => {
  for (const make of GLOBALS.map((name) => globalThis[name] as () => unknown)) {
    assert.throws(() => Reflect.apply(make, undefined, ["1"]), refused);
    assert.throws(() => Reflect.construct(make, ["1"]), refused);
    assert.throws(() => Reflect.construct(make, ["1"], Map), refused);
  }
});

test("the constructor of each kind of function is refused, by way of its prototype, and of its own constructor", () => {
  for (const { constructor } of prototypes)
    for (const make of [constructor, constructor.constructor as () => unknown, Object.getPrototypeOf(constructor).constructor]) {
      assert.throws(() => Reflect.apply(make, undefined, ["1"]), refused);
      assert.throws(() => Reflect.construct(make, ["1"]), refused);
    }
});

test("nothing puts them back", () => {
  const places = [
    ...GLOBALS.map((name) => [globalThis, name] as const),
    ...prototypes.map((one) => [one, "constructor"] as const),
  ];
  for (const [owner, name] of places) {
    assert.throws(() => Object.defineProperty(owner, name, { value: Map }), TypeError);
    assert.equal(Reflect.deleteProperty(owner, name), false);
    assert.equal(Reflect.set(owner, name, Map), false);
  }
});

test("a function still is a Function, and nothing else is", () => {
  const { [Symbol.hasInstance]: is_one } = Function;
  for (const kind of Object.values(KINDS)) assert.ok(is_one.call(Function, kind));
  assert.ok(!is_one.call(Function, {}));
});
