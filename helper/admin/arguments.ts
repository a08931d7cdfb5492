/** How a command of lowportd reads its options: strictly, so that a misspelt one ends it (64) before anything is done. */
import { parseArgs } from "node:util";
import { EXIT } from "../../shared/protocol.js";
import { step } from "../command-line.js";

/** As `options` of parseArgs (node:util). */
export type Options = Record<
  string,
  { type: "string" | "boolean"; multiple?: boolean; short?: string; default?: string | boolean }
>;
type Parsed<T extends Options> = ReturnType<typeof parseArgs<{ args: string[]; options: T; allowPositionals: false }>>["values"];

/** The options of a command that takes no further words. Ends the process if they are wrong. */
export function read_options<T extends Options>(args: readonly string[], options: T): Parsed<T> {
  return step(EXIT.usage, "lowportd: usage", () => parseArgs({ args: [...args], options, allowPositionals: false }).values);
}
