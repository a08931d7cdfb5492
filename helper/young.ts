/**
 * What a busy helper throws away again. V8 lets the space for what is young grow to 32 MB, and never gives them back; kept as it is when
 * this is called, it serves as fast. Node's flag for that (--max-semi-space-size) would make Node refuse the cache of its own code, which
 * takes 10 ms of each start; and node:v8 takes 1 MB, so it is for a helper that is busy.
 */
export const stay_small = () => process.getBuiltinModule("node:v8").setFlagsFromString("--semi-space-growth-factor=1");
