/**
 * Text for people: colours where they are wanted, tables, plurals and ages. What came from elsewhere (labels, reasons, names,
 * lines of a file) is made printable first: a control character could move the cursor, rename the window or hide a line.
 */
import { styleText } from "node:util";

type Style = Parameters<typeof styleText>[0];

/** As Node's own (tty.WriteStream.getColorDepth): FORCE_COLOR decides, then NO_COLOR and TERM, then whether it is a terminal. */
export function wants_colour(is_terminal: boolean, env: NodeJS.ProcessEnv): boolean {
  const forced = env["FORCE_COLOR"];
  if (forced !== undefined) return forced !== "0" && forced !== "false";
  return is_terminal && !env["NO_COLOR"] && env["TERM"] !== "dumb";
}

/** Gives text a style, or leaves it. */
export type Paint = (style: Style, text: string) => string;

/** What paints for a stream, which is stdout unless it is another. */
export function paint_for(stream: { readonly isTTY?: boolean } = process.stdout, env = process.env): Paint {
  const colour = wants_colour(stream.isTTY === true, env);
  return (style, text) => (colour && text !== "" ? styleText(style, text, { validateStream: false }) : text);
}

/** Controls, line separators, lone surrogates, and what changes the direction of text or cannot be seen (Unicode categories). */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** Text of somebody else's as it may stand in a line on a terminal. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`);
}

/** As JSON on a line, with nothing in it that a terminal would act on; it says the same. */
export function to_json(data: unknown): string {
  return JSON.stringify(data).replace(UNPRINTABLE, (character) =>
    [...Array(character.length).keys()].map((i) => `\\u${character.charCodeAt(i).toString(16).padStart(4, "0")}`).join(""),
  );
}

/** "1 lease", "2 leases". */
export const count = (number: number, what: string): string => `${number} ${what}${number === 1 ? "" : "s"}`;

/** Columns, each as wide as its widest cell. @param head painted bold */
export function table(head: readonly string[], rows: readonly (readonly string[])[], paint: Paint): string {
  const all = [head, ...rows.map((row) => row.map(printable))];
  const widths = head.map((_, i) => Math.max(...all.map((row) => row[i]?.length ?? 0)));
  const lines = all.map((row) => row.map((cell, i) => cell.padEnd(widths[i] ?? 0)));
  return lines.map((cells, i) => (i === 0 ? paint("bold", cells.join("  ").trimEnd()) : cells.join("  ").trimEnd())).join("\n");
}

const UNITS = [
  ["d", 86_400],
  ["h", 3600],
  ["min", 60],
  ["s", 1],
] as const;

/** Seconds as people say them, in their two largest units: "3 d 4 h", "12 s". */
export function duration(seconds: number): string {
  let rest = Math.max(0, Math.floor(seconds));
  const parts: string[] = [];
  for (const [unit, size] of UNITS) {
    const amount = Math.floor(rest / size);
    rest %= size;
    if (amount > 0) parts.push(`${amount} ${unit}`);
    else if (parts.length > 0) break;
    if (parts.length === 2) break;
  }
  return parts.join(" ") || "0 s";
}
