/**
 * The flags that the helper's Node runs with, as in the first line of helper/main.ts: for whoever starts it. None of V8's is among them:
 * each would make Node refuse the cache of its own code, which takes 10 ms of the start.
 */
export const NODE_FLAGS: readonly string[] = ["--disable-proto=throw", "--inspect-publish-uid=stderr", "--v8-pool-size=1"];

/** In place of them with `lowportd install --hardened`: V8 without its compilers, which has no such cache anyway. */
export const HARDENED_FLAGS: readonly string[] = [
  "--jitless",
  // These say at each start that the one above turns this off; Node 24 and 26 do not, and do not start with what they do not know.
  ...(/^2[02]\./.test(process.versions.node) ? ["--no-expose-wasm"] : []),
  "--disallow-code-generation-from-strings",
  "--max-semi-space-size=4",
  ...NODE_FLAGS,
];
