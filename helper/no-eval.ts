/**
 * Takes from this process what makes code of strings: `eval`, and the constructors of functions, by name and by `.constructor`. It is
 * imported before what could use them, and ends one step of an attack: text that reaches one of them runs as the helper. What it leaves
 * is what Node's --disallow-code-generation-from-strings leaves too: node:vm, workers, WebAssembly and importing what is not a file;
 * helper/ uses none of them. With that flag Node would start 10 ms later, because its own code is cached for a Node without;
 * lowportd install --hardened gives it all the same.
 */

function refuse(): never {
  throw new EvalError("lowportd makes no code of strings");
}
refuse.prototype = Function.prototype; // for `x instanceof Function`

const NEVER = { value: refuse, writable: false, configurable: false };
/** A function of each kind: the prototype of each kind names its constructor. */
const KINDS = [refuse, async () => {}, function* () {}, async function* () {}];

for (const prototype of KINDS.map(Object.getPrototypeOf)) Object.defineProperty(prototype, "constructor", NEVER);
Object.defineProperties(globalThis, { eval: NEVER, Function: NEVER });
