/** The flags that the helper's Node runs with, as in the first line of helper/main.ts: for whoever starts it. */
export const NODE_FLAGS: readonly string[] = [
  "--disallow-code-generation-from-strings",
  "--disable-proto=throw",
  "--inspect-publish-uid=stderr",
  "--v8-pool-size=1",
  "--max-semi-space-size=4",
];
