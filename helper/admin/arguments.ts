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

/** The options of a command that takes no further words. Ends the process if they are wrong. */
export function read_options<T extends Options>(args: readonly string[], options: T): Parsed<T> {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: false }).values;
  } catch (error) {
    die(EXIT.usage, `lowportd: usage: ${message_of(error)}; see lowportd --help`);
  }
}
