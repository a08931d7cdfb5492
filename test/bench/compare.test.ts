/** How the bench compares: turns, medians of ratios, verdicts, and what stands in the table. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Comparison, figure_of, median, quantile, run_comparison } from "./compare.js";
import { section } from "./report.js";

/** A contender whose rounds give these figures, one after the other. */
function contender(name: string, figures: number[], calls: string[] = []) {
  let round = 0;
  return {
    name,
    round: () => {
      calls.push(name);
      return { p50: figures[round++ % figures.length] ?? 0 };
    },
  };
}
const comparison = (over: Partial<Comparison>): Comparison => ({
  title: "Something",
  how: "somehow",
  unit: "µs",
  baseline: "base",
  contenders: [],
  ...over,
});

test("medians and quantiles", () => {
  assert.deepEqual([median([3, 1, 2]), median([4, 1, 2, 3]), median([7])], [2, 2.5, 7]);
  const hundred = Array.from({ length: 100 }, (_, i) => i + 1);
  assert.deepEqual([quantile(hundred, 0.99), quantile(hundred, 0.5), quantile([5], 0.99)], [99, 50, 5]);
});

test("a round of few samples has no 99th percentile", () => {
  assert.equal(figure_of([1, 2, 3]).p99, undefined);
  assert.equal(figure_of(Array.from({ length: 100 }, (_, i) => i)).p99, 98);
});

test("contenders take turns, and the first turn does not count", async () => {
  const calls: string[] = [];
  const contenders = [contender("base", [100, 10, 10], calls), contender("other", [1, 20, 30], calls)];
  const { rows } = await run_comparison(comparison({ contenders }), 2);
  assert.deepEqual(calls, ["base", "other", "base", "other", "base", "other"]);
  assert.deepEqual(
    rows.map(({ name, p50, ratio, ratioMin, ratioMax }) => [name, p50, ratio, ratioMin, ratioMax]),
    [
      ["base", 10, 1, 1, 1],
      ["other", 25, 2.5, 2, 3],
    ],
  );
});

test("the ratio is of the same round, so that a machine that slows down changes nothing", async () => {
  const contenders = [contender("base", [0, 10, 20, 40]), contender("other", [0, 15, 30, 60])];
  const { rows } = await run_comparison(comparison({ contenders }), 3);
  assert.deepEqual([rows[1]?.ratio, rows[1]?.ratioMin, rows[1]?.ratioMax], [1.5, 1.5, 1.5]);
});

test("targets are judged as they are, and one whose contender is not there is not", async () => {
  const contenders = [contender("base", [10]), contender("other", [20])];
  const targets = [
    { of: "other", most: 1.5 },
    { of: "other", most: 2 },
    { of: "other", least: 2.1 },
    { of: "not installed", least: 1 },
    { of: "base", to: "other", most: 0.5 },
  ];
  const { verdicts } = await run_comparison(comparison({ contenders, targets }), 1);
  assert.deepEqual(
    verdicts.map(({ met }) => met),
    [false, true, false, true],
  );
});

test("what was started is ended, also when a round fails", async () => {
  let ended = 0;
  const contenders = [{ name: "base", round: () => Promise.reject(new Error("broken")) }];
  const failing = comparison({ contenders, end: () => void ended++ });
  await assert.rejects(run_comparison(failing, 3), /broken/);
  assert.equal(ended, 1);
});

test("the table names what is missing, and says whether a target was reached", async () => {
  const contenders = [contender("base", [1234.5]), contender("other", [0.0123])];
  const missing = [{ name: "authbind", why: "apt-get install authbind" }];
  const text = section(await run_comparison(comparison({ contenders, missing, targets: [{ of: "other", most: 0 }] }), 1));
  assert.match(text, /\| base \| 1,230 \|/);
  assert.match(text, /\| other \| 0\.0123 \|/);
  assert.match(text, /\| authbind \| not installed \| \| \| apt-get install authbind \|/);
  assert.match(text, /\| other \| .* \| at most 0: \*\*missed\*\*, 0\.00 \|/);
});
