/**
 * How things are compared: contenders take turns, round by round, so that a machine whose speed drifts is unfair to none;
 * each round gives a ratio to the baseline of the same round, and what counts is the median of those ratios.
 */

/** What a contender reached in one round, in the unit of its comparison. */
export interface Figure {
  /** The median of the round's samples, or the round's one figure. */
  readonly p50: number;
  /** The 99th percentile, where a round has enough samples for one. */
  readonly p99?: number | undefined;
}

export interface Contender {
  readonly name: string;
  /** Measures once. */
  readonly round: () => Figure | Promise<Figure>;
}

/** A bound on a ratio to the baseline: what lowport is to reach. */
export interface Target {
  readonly of: string;
  /** The baseline of this target; that of the comparison if it is not named. */
  readonly to?: string;
  readonly what?: "p50" | "p99";
  readonly most?: number;
  readonly least?: number;
}

export interface Comparison {
  /** What is compared, for people. */
  readonly title: string;
  /** How it is measured: a sentence. */
  readonly how: string;
  readonly unit: "µs" | "ms" | "MB" | "grants/s" | "requests/s" | "lines/s";
  /** The contender that ratios are taken to. */
  readonly baseline: string;
  readonly contenders: readonly Contender[];
  /** Contenders that cannot run here, and what to install. */
  readonly missing?: readonly { readonly name: string; readonly why: string }[];
  readonly targets?: readonly Target[];
  /** Rounds, where each takes long; else as many as the run has. */
  readonly rounds?: number;
  /** Ends what was started for it. */
  readonly end?: () => void | Promise<void>;
}

export interface Row {
  readonly name: string;
  /** Medians over the rounds. */
  readonly p50: number;
  readonly p99: number | undefined;
  /** To the baseline of the same round: median, least and most over the rounds. */
  readonly ratio: number;
  readonly ratioMin: number;
  readonly ratioMax: number;
}

export interface Verdict {
  /** The contender that it is about. */
  readonly of: string;
  /** Such as "at most 1.25", of what, and for which figure. */
  readonly bound: string;
  readonly reached: number;
  readonly met: boolean;
}

export interface Result {
  readonly title: string;
  readonly how: string;
  readonly unit: string;
  readonly rounds: number;
  readonly rows: readonly Row[];
  readonly missing: readonly { readonly name: string; readonly why: string }[];
  readonly verdicts: readonly Verdict[];
}

/** The middle of the values; of an even number of them the mean of the two. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return ((sorted[Math.ceil(middle) - 1] ?? Number.NaN) + (sorted[Math.floor(middle)] ?? Number.NaN)) / 2;
}

/** The value below which the share `q` of the values lies (nearest rank). */
export function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] ?? Number.NaN;
}

/** A round's samples as its figure. */
export function figure_of(samples: readonly number[]): Figure {
  return { p50: median(samples), p99: samples.length >= 100 ? quantile(samples, 0.99) : undefined };
}

function judge(target: Target, comparison: Comparison, figures: ReadonlyMap<string, readonly Figure[]>): Verdict | undefined {
  const { of, to = comparison.baseline, what = "p50", most, least } = target;
  const mine = figures.get(of);
  const theirs = figures.get(to);
  if (mine === undefined || theirs === undefined) return undefined;
  const reached = median(mine.map((figure, i) => (figure[what] ?? Number.NaN) / (theirs[i]?.p50 ?? Number.NaN)));
  const met = most === undefined ? reached >= (least ?? 0) : reached <= most;
  const what_of =
    what === "p99" ? ["p99 ", to === of ? " of its median" : ` of ${to}`] : ["", to === comparison.baseline ? "" : ` of ${to}`];
  const bound = `${what_of[0]}${most === undefined ? `at least ${least}` : `at most ${most}`}${what_of[1]}`;
  return { of, bound, reached, met };
}

/** Runs a comparison: one round each that does not count, then `rounds` in turn. */
export async function run_comparison(comparison: Comparison, rounds: number): Promise<Result> {
  const { title, how, unit, baseline, contenders, missing = [], targets = [] } = comparison;
  const count = Math.min(rounds, comparison.rounds ?? rounds);
  const figures = new Map<string, Figure[]>(contenders.map(({ name }) => [name, []]));
  try {
    for (let round = -1; round < count; round++)
      for (const contender of contenders) {
        const figure = await contender.round();
        if (round >= 0) figures.get(contender.name)?.push(figure);
      }
  } finally {
    await comparison.end?.();
  }
  const base = figures.get(baseline) ?? [];
  const rows = [...figures].map(([name, all]): Row => {
    const ratios = all.map(({ p50 }, i) => p50 / (base[i]?.p50 ?? Number.NaN));
    const p99s = all.flatMap(({ p99 }) => p99 ?? []);
    return {
      name,
      p50: median(all.map(({ p50 }) => p50)),
      p99: p99s.length > 0 ? median(p99s) : undefined,
      ratio: median(ratios),
      ratioMin: Math.min(...ratios),
      ratioMax: Math.max(...ratios),
    };
  });
  const verdicts = targets.flatMap((target) => judge(target, comparison, figures) ?? []);
  return { title, how, unit, rounds: count, rows, missing, verdicts };
}
