/** Finds the command that the words mean, reads its options, runs it and says what it answers. */
import { EXIT, VERSION } from "../../shared/protocol.js";
import { type Answer, type Command, read_words, type Table, Usage } from "./command.js";
import { exit_of } from "./exit.js";
import { say, say_error } from "./output.js";

/** What is wrong with a command line, and whose help tells it right. */
class Misused extends Error {
  readonly code: string;
  readonly command: string;
  constructor({ message, code }: Usage, command: string) {
    super(message);
    this.code = code;
    this.command = command;
  }
}

const load = async (table: Table, names: readonly string[]) =>
  Object.fromEntries(await Promise.all(names.map(async (name) => [name, (await table[name]?.())?.command as Command] as const)));

/** Names of the commands that these words mean: one, or a whole family ("audit"), or none. */
function names_of(table: Table, [first = "", second]: readonly string[]): string[] {
  if (Object.hasOwn(table, first)) return [first];
  const family = Object.keys(table).filter((name) => name.startsWith(`${first} `));
  const one = family.filter((name) => name === `${first} ${second}`);
  return one.length > 0 || second !== undefined ? one : family;
}

/** Positions of the first two words that are no options. Options that every command takes may stand before them. */
function find_words(args: readonly string[]): number[] {
  const found: number[] = [];
  for (let i = 0; i < args.length && args[i] !== "--" && found.length < 2; i++) {
    if (args[i] === "--socket") i++;
    else if (args[i]?.startsWith("-") === false) found.push(i);
  }
  return found;
}

async function answer_help(table: Table, about: readonly string[]): Promise<Answer> {
  const { explain, explain_all, find_topic } = await import("./help.js");
  if (about.length === 0) return explain_all(await load(table, Object.keys(table)));
  const topic = about.length === 1 ? find_topic(about[0] as string) : undefined;
  if (topic !== undefined) return topic;
  const names = about.length === 1 ? names_of(table, about) : [about.join(" ")].filter((name) => Object.hasOwn(table, name));
  if (names.length === 0) throw new Usage(`there is no command "${about.join(" ")}"`);
  return explain(await load(table, names));
}

const version = (): Answer => ({ data: { version: VERSION }, text: `lowport ${VERSION}`, exit: EXIT.ok });

/** Without a command, or `help`. */
async function answer_general(table: Table, args: readonly string[]): Promise<Answer> {
  const { words, values } = read_words(args, {});
  if (values.version === true) return version();
  if (words.length === 0 && values.help !== true) throw new Usage("which command?");
  return answer_help(table, words.slice(1));
}

async function answer(table: Table, args: readonly string[]): Promise<Answer | number> {
  const places = find_words(args);
  const words = places.map((i) => args[i] as string);
  const [first] = words;
  if (first === undefined || first === "help") return answer_general(table, args);
  const names = names_of(table, words);
  const [name = "", another] = names;
  if (name === "") throw new Usage(`there is no command "${words.join(" ")}"`);
  const used = new Set(places.slice(0, name.split(" ").length));
  const rest = args.filter((_, i) => !used.has(i));
  if (another !== undefined) {
    const { values } = read_words(rest, {});
    if (values.help === true) return answer_help(table, [first]);
    throw new Usage(`which one: ${names.map((each) => `lowport ${each}`).join(", ")}`);
  }
  const { [name]: command } = await load(table, [name]);
  if (command === undefined) throw new Error(`${name} cannot be loaded`);
  try {
    const { words: own, values } = read_words(rest, command.options);
    if (values.help === true) return await answer_help(table, name.split(" "));
    if (values.version === true) return version();
    return await command.run(own, values);
  } catch (error) {
    throw error instanceof Usage ? new Misused(error, name) : error;
  }
}

/** Runs a command line. @returns the exit code */
export async function run_command(table: Table, args: readonly string[]): Promise<number> {
  const json = args.includes("--json");
  try {
    const found = await answer(table, args);
    if (typeof found === "number") return found;
    await say(found, json);
    return found.exit;
  } catch (error) {
    const misused = error instanceof Usage || error instanceof Misused;
    const of = error instanceof Misused ? `lowport ${error.command}` : "lowport";
    // A file that is not there is no fault that the help could help with.
    const hint = misused && error.code === "ERR_LOWPORT_USAGE" ? `; see ${of} --help` : "";
    await say_error(error, hint, json);
    return misused ? EXIT.usage : exit_of(error);
  }
}
