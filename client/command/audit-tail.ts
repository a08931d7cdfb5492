/** `lowport audit tail`: the newest records, a line each, and those that come. Asks no helper. */
import { lstatSync } from "node:fs";
import { join } from "node:path";
import { METHODS } from "../../shared/methods.js";
import { EXIT } from "../../shared/protocol.js";
import { Follower } from "../audit/follow.js";
import { end_of_lines, last_lines } from "../audit/history.js";
import { BrokenFile, close_log, DEFAULT_AUDIT_LOG, find_newest, type LogFile } from "../audit/log-file.js";
import { explain_unreadable } from "../audit/readable.js";
import { DECISIONS, describe_entry, describe_other, EVENTS, type Filter, is_wanted, read_entry } from "../audit/record.js";
import { define, FOR_ALL, read_number, take_words, Usage, type Values } from "./command.js";
import { write_all } from "./output.js";
import { paint_for, to_json } from "./terminal.js";
import { read_who, Users, WHO } from "./users.js";

const DEFAULT_LINES = 20;
const MAX_LINES = 1_000_000;

const OPTIONS = {
  follow: { type: "boolean", short: "f", help: "go on with what comes, over rotation, until it is interrupted" },
  lines: { type: "string", short: "n", value: "N", help: `so many of the newest, ${DEFAULT_LINES} if not given` },
  uid: { ...WHO.uid, help: "only what that user did, by number" },
  user: { ...WHO.user, help: "only what that user did, by name" },
  method: { type: "string", value: "METHOD", help: "only calls of it: bind, release, list, check, revoke, status" },
  decision: { type: "string", value: "DECISION", help: `only that decision: ${DECISIONS.join(", ")}` },
  port: { type: "string", value: "PORT", help: "only what asks for that port, and ends of leases on it" },
  event: { type: "string", value: "EVENT", help: `only that event: ${EVENTS.join(", ")}` },
  json: { ...FOR_ALL.json, help: "the lines as they are, one JSON object each" },
} as const;

/** @throws Usage */
function one_of(text: string | undefined, what: string, known: readonly string[]): string | undefined {
  if (text !== undefined && !known.includes(text)) throw new Usage(`${what} is one of ${known.join(", ")}, not "${text}"`);
  return text;
}

function read_filter(values: Values<typeof OPTIONS>): Filter {
  return {
    uid: read_who(values),
    method: one_of(values.method, "--method", Object.keys(METHODS)),
    decision: one_of(values.decision, "--decision", DECISIONS),
    port: values.port === undefined ? undefined : read_number(values.port, "--port", 65_535, 1),
    event: one_of(values.event, "--event", EVENTS),
  };
}

/** Says lines that are wanted. */
class Printer {
  readonly #filter: Filter;
  readonly #json: boolean;
  /** Nothing is left out, so what is no record is shown too. */
  readonly #all: boolean;
  readonly #paint = paint_for();
  readonly #users = new Users();

  constructor(filter: Filter, json: boolean) {
    this.#filter = filter;
    this.#json = json;
    this.#all = Object.values(filter).every((value) => value === undefined);
  }

  wants(line: Buffer): boolean {
    if (this.#all) return true;
    const entry = read_entry(line);
    return entry !== undefined && is_wanted(entry, this.#filter);
  }

  #describe(line: Buffer): string {
    const entry = read_entry(line);
    return entry === undefined ? describe_other(line, this.#paint) : describe_entry(entry, this.#paint, this.#users);
  }

  async #print_json(lines: readonly Buffer[]): Promise<boolean> {
    const records: Buffer[] = [];
    for (const line of lines) {
      const entry = read_entry(line);
      if (entry === undefined) await write_all(process.stderr, `lowport: ${this.#describe(line)}\n`);
      // The very bytes, which have the hash; but a terminal would act on what somebody put into them.
      else records.push(process.stdout.isTTY ? Buffer.from(to_json(entry)) : line, Buffer.from("\n"));
    }
    return records.length === 0 || write_all(process.stdout, Buffer.concat(records));
  }

  /** @returns false if nobody reads any more */
  async print(lines: readonly Buffer[]): Promise<boolean> {
    const wanted = lines.filter((line) => this.wants(line));
    if (this.#json) return this.#print_json(wanted);
    const text = wanted.map((line) => `${this.#describe(line)}\n`).join("");
    return text === "" || write_all(process.stdout, text);
  }
}

/** The log that is meant. @throws Usage */
function read_path(word = DEFAULT_AUDIT_LOG): string {
  if (word === "-" || word === "/dev/stdin")
    throw new Usage("audit tail reads a file, and not the standard input; audit verify reads both");
  return lstatSync(word, { throwIfNoEntry: false })?.isDirectory() === true ? join(word, "audit.log") : word;
}

async function open_newest(path: string): Promise<LogFile | undefined> {
  try {
    return await find_newest(path);
  } catch (error) {
    throw error instanceof BrokenFile ? new Usage(error.message, "EINVAL") : error;
  }
}

/** @returns false if nobody reads any more */
async function print_last(path: string, file: LogFile, end: number, most: number, printer: Printer): Promise<boolean> {
  return printer.print(await last_lines(path, file, end, most, (line) => printer.wants(line)));
}

/** Prints what there is, and what comes. */
async function tail(path: string, most: number, follow: boolean, printer: Printer): Promise<void> {
  const file = await open_newest(path);
  if (file === undefined && !follow)
    throw new Usage(`there is no audit log ${path}: no such file; give the one that lowport.json names`, "ENOENT");
  if (file?.compressed === true && follow) throw new Usage("a compressed file does not grow: leave out --follow");
  let end = 0;
  let last: Buffer | undefined;
  if (file !== undefined) {
    end = end_of_lines(file, file.stats.size);
    if (follow) [last] = await last_lines(path, file, end, 1, () => true);
    const read = await print_last(path, file, end, most, printer);
    if (!read || !follow) return close_log(file);
  }
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stop.abort());
  for await (const lines of new Follower(path, file, end, last).lines(stop.signal))
    if (!(await printer.print(lines)) || stop.signal.aborted) break;
}

export const command = define({
  summary: "the newest records, and with --follow those that come (root, group adm)",
  words: "[FILE|FOLDER]",
  options: OPTIONS,
  about: `A line for each record: when, who, what, the decision, and by which rule or why. Without a file it is
${DEFAULT_AUDIT_LOG}; rotated files are looked into as far as it takes. With several conditions all must hold.`,
  examples: [
    ["sudo lowport audit tail --follow", "watch what is asked for"],
    ["sudo lowport audit tail --decision deny --lines 50", "what was refused lately"],
    ["sudo lowport audit tail --user www-data --port 443", "what www-data did with port 443"],
    ["sudo lowport audit tail --follow --json --event lease-end | jq .reason", "in a script"],
  ],
  async run(words, values) {
    const [word] = take_words(words, 0, 1);
    const most = values.lines === undefined ? DEFAULT_LINES : read_number(values.lines, "--lines", MAX_LINES);
    const printer = new Printer(read_filter(values), values.json === true);
    try {
      await tail(read_path(word), most, values.follow === true, printer);
    } catch (error) {
      throw explain_unreadable(error);
    }
    return EXIT.ok;
  },
});
