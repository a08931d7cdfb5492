/**
 * The flags that the helper's Node runs with, as in the first line of helper/main.ts: for whoever starts it. None of V8's is among them:
 * each would make Node refuse the cache of its own code, which takes 10 ms of the start.
 */
export const NODE_FLAGS: readonly string[] = ["--disable-proto=throw", "--inspect-publish-uid=stderr", "--v8-pool-size=1"];

/** In place of them with `lowportd install --hardened`: V8 without its compilers, which has no such cache anyway. */
export const HARDENED_FLAGS: readonly string[] = [
  "--jitless",
  // Before 26 Node says at each start that the one above turns this off; from then on there is no such option.
  ...(Number.parseInt(process.versions.node, 10) < 26 ? ["--no-expose-wasm"] : []),
  "--disallow-code-generation-from-strings",
  "--max-semi-space-size=4",
  ...NODE_FLAGS,
];
