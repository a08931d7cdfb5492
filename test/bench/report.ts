/** Results as tables for people; the same tables stand in the README. */
import type { Result, Row } from "./compare.js";

const DIGITS = 3;

/** Three digits are as many as a figure of a bench is worth. */
function figure(value: number | undefined): string {
  if (value === undefined || Number.isNaN(value)) return "";
  if (value >= 1000) return Number(value.toPrecision(DIGITS)).toLocaleString("en");
  return value.toPrecision(DIGITS);
}

const ratio_of = ({ ratio, ratioMin, ratioMax }: Row) => `${ratio.toFixed(2)} (${ratioMin.toFixed(2)} to ${ratioMax.toFixed(2)})`;

/** A table in Markdown. The ratio is the median over the rounds, with the least and the most. */
export function table({ title, how, unit, rounds, rows, missing, verdicts }: Result): string {
  const lines = [
    `### ${title}`,
    "",
    `${how}; ${rounds} rounds in turn.`,
    "",
    `| | median, ${unit} | p99 | ratio (range) |`,
    "| --- | ---: | ---: | ---: |",
    ...rows.map((row) => `| ${row.name} | ${figure(row.p50)} | ${figure(row.p99)} | ${ratio_of(row)} |`),
    ...missing.map(({ name, why }) => `| ${name} | not installed | | ${why} |`),
    "",
    ...verdicts.map(({ target, reached, met }) => `- ${met ? "reached" : "MISSED"}: ${target}: ${reached.toFixed(2)}`),
    "",
  ];
  return lines.join("\n");
}
