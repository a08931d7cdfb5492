/**
 * What a command is: its words, its own options, its help and what it does. The options are read strictly: one that a
 * command does not take is a usage error, so that a misspelt or misplaced one never passes for done.
 */
import { parseArgs } from "node:util";
import type { Client } from "../client.js";
import { connect } from "../connect.js";

/** An option as parseArgs (node:util) takes it, and as --help tells it. */
export interface Option {
  readonly type: "string" | "boolean";
  readonly short?: string;
  /** It may be given more than once. */
  readonly multiple?: boolean;
  /** What stands for its value in the help, if it takes one. */
  readonly value?: string;
  readonly help: string;
}
export type Options = Readonly<Record<string, Option>>;
export type Values<O extends Options = Options> = {
  readonly [K in keyof O]?: (O[K]["type"] extends "boolean" ? boolean : string) | undefined;
};

/** What a command found: as data, as text, and how the process ends. */
export interface Answer {
  readonly data: unknown;
  readonly text: string;
  readonly exit: number;
  /** The text goes to stderr. */
  readonly complains?: boolean;
}

interface Described<O extends Options> {
  /** One line for the overview. */
  readonly summary: string;
  /** Its words, without options, such as "PROTOCOL PORT [ADDRESS]". */
  readonly words: string;
  readonly options: O;
  /** What --help says besides. */
  readonly about: string;
  /** Command lines, each with what it is for. */
  readonly examples: readonly (readonly [line: string, purpose: string])[];
}

export interface Command<O extends Options = Options> extends Described<O> {
  /** @param words what is no option. @returns the answer; or the exit code, if it has said all itself */
  run(words: readonly string[], values: Values<O>): Promise<Answer | number>;
}

/** A command whose words are another program's after some point: it reads them itself, and all that follows its name is its own. */
export interface RawCommand extends Described<Options> {
  /** @returns the exit code */
  take(words: readonly string[]): Promise<number>;
}

/** Commands by their names, one or two words, in the order of the overview. */
export type Table = Readonly<Record<string, () => Promise<{ readonly command: Command | RawCommand }>>>;

/** Types a command by its own options. */
export const define = <O extends Options>(command: Command<O>): Command<O> => command;

/** The command line is wrong (exit 64). */
export class Usage extends Error {
  /** ERR_LOWPORT_USAGE, or what the file system says of a file that the command line names. */
  readonly code: string;
  constructor(message: string, code = "ERR_LOWPORT_USAGE") {
    super(message);
    this.code = code;
  }
}

/** What every command takes. */
export const FOR_ALL = {
  json: { type: "boolean", help: "answer with one JSON document" },
  help: { type: "boolean", short: "h", help: "say how it is used" },
  version: { type: "boolean", help: "say which version it is" },
} as const satisfies Options;

/** What commands that ask the helper take. */
export const SOCKET = {
  socket: { type: "string", value: "PATH", help: "the control socket; default: LOWPORT_SOCKET, else /run/lowport/lowport.sock" },
} as const satisfies Options;

/** What Node's parseArgs finds wrong, in a sentence. */
function explain_misuse({ message }: Error): string {
  const option = (/--\w[\w-]*/.exec(message) ?? /-\w/.exec(message))?.[0] ?? "an option";
  if (message.startsWith("Unknown option")) return `there is no option ${option}`;
  if (message.includes("ambiguous")) return `${option} needs a value, and what follows begins with -`;
  if (message.includes("missing")) return `${option} needs a value`;
  return message.includes("does not take") ? `${option} takes no value` : (message.split("\n")[0] as string);
}

/** The words and options of a command line. @throws Usage */
export function read_words<O extends Options>(
  args: readonly string[],
  options: O,
): { words: string[]; values: Values<O> & Values<typeof FOR_ALL> } {
  try {
    const { values, positionals } = parseArgs({ args: [...args], options: { ...options, ...FOR_ALL }, allowPositionals: true });
    return { words: positionals, values };
  } catch (error) {
    throw new Usage(explain_misuse(error as Error));
  }
}

/** @throws Usage */
export function read_number(text: string | undefined, what: string, max: number, least = 0): number {
  const number = Number(text);
  if (text === undefined || !/^[0-9]+$/.test(text) || number > max || number < least)
    throw new Usage(`${what} must be a number ${least === 0 ? "up" : `from ${least}`} to ${max}`);
  return number;
}

/** @throws Usage if there are fewer words, or more */
export function take_words(words: readonly string[], least: number, most: number): readonly string[] {
  if (words.length < least) throw new Usage("a word is missing");
  if (words.length > most) throw new Usage(`there is a word too many: "${words[most]}"`);
  return words;
}

/** Connects for as long as `work` takes. */
export async function with_helper<T>({ socket }: Values<typeof SOCKET>, work: (client: Client) => Promise<T>): Promise<T> {
  const client = await connect({ socket });
  try {
    return await work(client);
  } finally {
    client.close();
  }
}
