/** Results as one table for people, which stands in the README too. */
import type { Result, Row, Verdict } from "./compare.js";

const DIGITS = 3;

/** Three digits are as many as a figure of a bench is worth. */
function figure(value: number | undefined): string {
  if (value === undefined || Number.isNaN(value)) return "";
  return value >= 1000 ? Number(value.toPrecision(DIGITS)).toLocaleString("en") : value.toPrecision(DIGITS);
}

function ratio_of({ ratio, ratioMin, ratioMax }: Row, rounds: number): string {
  return rounds === 1 ? ratio.toFixed(2) : `${ratio.toFixed(2)} (${ratioMin.toFixed(2)} to ${ratioMax.toFixed(2)})`;
}

function verdict_of({ bound, reached, met }: Verdict): string {
  return met ? `${bound}: ${reached.toFixed(2)}` : `${bound}: **missed**, ${reached.toFixed(2)}`;
}

export const HEADER = "| | median | p99 | ratio (range) | to reach |\n| --- | ---: | ---: | ---: | --- |";

/** The rows of a comparison: its title and unit, then a row each, the baseline first. */
export function section({ title, unit, rounds, rows, missing, verdicts }: Result): string {
  const of = (name: string) => verdicts.filter((verdict) => verdict.of === name).map(verdict_of);
  return [
    `| **${title}**, ${unit} | | | | |`,
    ...rows.map(
      (row) =>
        `| ${row.name} | ${figure(row.p50)} | ${figure(row.p99)} | ${ratio_of(row, rounds)} | ${of(row.name).join("; ")} |`,
    ),
    ...missing.map(({ name, why }) => `| ${name} | not installed | | | ${why} |`),
  ].join("\n");
}

/** How each was measured. */
export function notes(results: readonly Result[]): string {
  return results
    .map(({ title, how, rounds }) => `- ${title}: ${how}; ${rounds} ${rounds === 1 ? "round" : "rounds"}.`)
    .join("\n");
}
