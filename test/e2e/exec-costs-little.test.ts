/**
 * What `lowport exec` costs: at the start, at a bind, and, once a program serves, nothing. Figures are printed; what is held is
 * only the order of magnitude, because machines differ. Alternated runs, medians.
 */
import assert from "node:assert/strict";
import { performance } from "node:perf_hooks";
import { test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { exec, run } from "./exec-program.js";
import { start_helper } from "./helper-process.js";

await enter_box(import.meta.url);

const { alice } = USERS;
const median = (numbers: number[]) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] as number;

/** Nanoseconds of each thing, the median of several rounds. */
const MEASURE = `
import os, socket, sys, time
def cost(what, count):
    rounds = []
    for _ in range(9):
        start = time.perf_counter_ns()
        for i in range(count): what(i)
        rounds.append((time.perf_counter_ns() - start) // count)
    return sorted(rounds)[4]
read = os.open("/dev/zero", 0)
def free(i):
    s = socket.socket(); s.bind(("127.0.0.1", 0)); s.close()
def low(i):
    s = socket.socket()
    try: s.bind(("127.0.0.1", 80))
    except PermissionError: pass
    s.close()
print(cost(lambda i: os.pread(read, 1, 0), 20000), cost(free, 200), cost(low, 50))`;
const python = ["/usr/bin/python3", "-c", MEASURE];

test("a start, a system call that is not trapped, a bind of the kernel's, a bind of the helper's", async (t) => {
  const limits = { requestsPerSecond: 100_000, requestBurst: 100_000 };
  await start_helper(t, { config: { limits } });
  const starts: [number[], number[]] = [[], []];
  const costs: [number[][], number[][]] = [[], []];
  for (let round = 0; round < 10; round++)
    for (const [i, wrapper] of [[], exec("--")].entries()) {
      const begin = performance.now();
      await run(t, alice, [...wrapper, "true"]);
      starts[i]?.push(performance.now() - begin);
    }
  for (let round = 0; round < 3; round++)
    for (const [i, wrapper] of [[], exec("--")].entries()) {
      const { stdout, stderr } = await run(t, alice, [...wrapper, ...python]);
      assert.equal(stderr, "");
      costs[i]?.push(stdout.trim().split(" ").map(Number));
    }
  const start = starts.map(median);
  const of = (which: number) => costs.map((rounds) => median(rounds.map((round) => round[which] as number)) / 1000);
  const show = (what: string, [without = 0, with_it = 0]: number[], unit: string) =>
    t.diagnostic(`${what}: ${without.toFixed(2)} ${unit} without, ${with_it.toFixed(2)} ${unit} with`);
  show("start and end of `true`", start, "ms");
  show("pread", of(0), "us");
  show("socket, bind to port 0, close", of(1), "us");
  show("socket, bind to port 80 (refused without, granted with), close", of(2), "us");
  const [, started = 0] = start;
  const [plain = 1, filtered = 0] = of(0);
  assert.ok(started < 5_000, "a start");
  assert.ok(filtered < 3 * plain, "a call that is not trapped");
});
