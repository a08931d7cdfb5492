/** How a command of lowportd reads its options: strictly, so that a misspelt one ends it (64) before anything is done. */
import { parseArgs } from "node:util";
import { message_of } from "../../shared/errors.js";
import { EXIT } from "../../shared/protocol.js";
import { die } from "../command-line.js";

/** As `options` of parseArgs (node:util). */
export type Options = Record<
  string,
  { type: "string" | "boolean"; multiple?: boolean; short?: string; default?: string | boolean }
>;
type Parsed<T extends Options> = ReturnType<typeof parseArgs<{ args: string[]; options: T; allowPositionals: false }>>["values"];

/** Letters in which a misspelt option may differ from what was meant. */
const NEAR = 2;

/** How many letters have to be put in, left out or changed to make one word of another (Levenshtein). */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (const [i, letter] of a.split("").entries()) {
    const next = [i + 1];
    for (const [j, other] of b.split("").entries())
      next.push(Math.min((row[j] as number) + (letter === other ? 0 : 1), (row[j + 1] as number) + 1, (next[j] as number) + 1));
    row = next;
  }
  return row[b.length] as number;
}

/** What is wrong with an option that there is not, and which one is nearest. @param elsewhere options of a like command */
function explain_unknown(args: readonly string[], options: Options, elsewhere: readonly string[]): string | undefined {
  const { tokens } = parseArgs({ args: [...args], options, allowPositionals: true, strict: false, tokens: true });
  const unknown = tokens.flatMap((token) => (token.kind === "option" && !Object.hasOwn(options, token.name) ? [token] : []));
  const named = unknown.find(({ name }) => !elsewhere.includes(name));
  if (named === undefined) return unknown[0] && `${unknown[0].rawName} cannot be given here`;
  const [nearest] = [...Object.keys(options), ...elsewhere]
    .map((name) => ({ name, far: distance(name, named.name) }))
    .filter(({ name, far }) => far <= NEAR && far < name.length)
    .toSorted((a, b) => a.far - b.far);
  return `there is no option ${named.rawName}${nearest === undefined ? "" : `; is it --${nearest.name}?`}`;
}

/**
 * The options of a command that takes no further words. Ends the process if they are wrong.
 * @param elsewhere options of a like command, which this one does not take
 */
export function read_options<T extends Options>(
  args: readonly string[],
  options: T,
  elsewhere: readonly string[] = [],
): Parsed<T> {
  const unknown = explain_unknown(args, options, elsewhere);
  if (unknown !== undefined) die(EXIT.usage, `lowportd: usage: ${unknown}; see lowportd --help`);
  try {
    return parseArgs({ args: [...args], options, allowPositionals: false }).values;
  } catch (error) {
    die(EXIT.usage, `lowportd: usage: ${message_of(error)}; see lowportd --help`);
  }
}
