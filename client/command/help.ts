/** `lowport help` and every --help, made from what the commands say of themselves. */
import { EXIT, VERSION } from "../../shared/protocol.js";
import { type Answer, type Command, FOR_ALL, type Options, type RawCommand } from "./command.js";
import { type Paint, paint_for } from "./terminal.js";

/** Commands by their names, in the order of the overview. */
export type Known = Readonly<Record<string, Command | RawCommand>>;

const EXITS = "Exit: 0 ok, 1 refused, 2 found wrong, 64 usage, 69 helper not reachable, 70 a bug, 77 no permission.";

/** What is no command and yet has its page. */
const TOPICS: Readonly<Record<string, { summary: string; text: string }>> = {
  register: {
    summary: "how an unchanged Node program gets its ports",
    text: `node --import lowport/register APP: an unchanged Node program gets the ports that it may not bind

A bind that the kernel refuses goes to the lowport helper; all else goes Node's own way. net, tls, http, https, http2 and dgram,
worker threads, node:cluster. Where the helper refuses too, the program has the error that it would have had, with the reason.

Environment:
  LOWPORT_SOCKET  the control socket; default: /run/lowport/lowport.sock
  LOWPORT_HOLD    seconds that the helper keeps a listener for the program's next start
  LOWPORT_LABEL   what \`lowport list\` shows beside it

lowport/register is looked up from the working directory: \`npm install\` the package there, or name the file of an installed lowport.

Examples:
  node --import lowport/register app.js
  node --import /usr/local/lib/lowport/current/dist/client/register.js app.js
  NODE_OPTIONS="--import lowport/register" LOWPORT_HOLD=30 npm start
`,
  },
};

const is_raw = (command: Command | RawCommand): command is RawCommand => "take" in command;

/** The options that a command takes, with those that all take. */
const all_options = (command: Command | RawCommand): Options =>
  is_raw(command) ? command.options : { ...command.options, ...FOR_ALL, ...command.options };

/** Columns of a usage line. */
const MAX_COLUMNS = 100;

/** A command line with all that it takes, over as many lines as that needs. */
function synopsis(name: string, command: Command | RawCommand): string {
  const options = Object.entries(all_options(command)).flatMap(([option, { value, multiple }]) =>
    option === "help" || option === "version"
      ? []
      : `[--${option}${value === undefined ? "" : ` ${value}`}]${multiple === true ? "..." : ""}`,
  );
  const words = command.words === "" ? [] : [command.words];
  const lines = [`lowport ${name}`];
  for (const part of is_raw(command) ? [...options, ...words] : [...words, ...options])
    if (`${lines.at(-1)} ${part}`.length <= MAX_COLUMNS) lines.push(`${lines.pop()} ${part}`);
    else lines.push(`${" ".repeat("lowport ".length + name.length)} ${part}`);
  return lines.join("\n");
}

const usage_of = (name: string, { words }: Command | RawCommand) => `lowport ${name}${words === "" ? "" : ` ${words}`}`;

function option_lines(options: Options): string[] {
  const names = Object.entries(options).map(
    ([name, { short, value }]) => `${short === undefined ? "" : `-${short}, `}--${name}${value === undefined ? "" : ` ${value}`}`,
  );
  const width = Math.max(...names.map((name) => name.length));
  return Object.values(options).map(({ help }, i) => `  ${(names[i] ?? "").padEnd(width)}  ${help}`);
}

function command_text(name: string, command: Command | RawCommand, paint: Paint): string {
  const examples = command.examples.flatMap(([line, purpose]) => [`  # ${purpose}`, `  ${line}`]);
  return [
    paint("bold", synopsis(name, command)),
    "",
    `${command.summary[0]?.toUpperCase()}${command.summary.slice(1)}.`,
    command.about,
    "",
    "Options:",
    ...option_lines(all_options(command)),
    "",
    "Examples:",
    ...examples,
    "",
  ].join("\n");
}

function overview(known: Known, paint: Paint): string {
  const usages = Object.entries(known).map(([name, command]) => usage_of(name, command));
  const width = Math.max(...usages.map((usage) => usage.length));
  const rows = Object.values(known).map(({ summary }, i) => `  ${paint("bold", (usages[i] ?? "").padEnd(width))}  ${summary}`);
  const topics = Object.entries(TOPICS).map(([name, { summary }]) => `  ${`lowport help ${name}`.padEnd(width)}  ${summary}`);
  return [
    `lowport ${VERSION}: asks the lowport helper`,
    "",
    ...rows,
    "",
    `  ${"lowport help [COMMAND]".padEnd(width)}  its options and examples; the same as lowport COMMAND --help`,
    ...topics,
    "",
    ...option_lines(FOR_ALL),
    "",
    "Example: lowport check tcp 443 192.0.2.1",
    EXITS,
    "",
  ].join("\n");
}

/** Commands as data: what the tests hold the manual and the completions to. */
function as_data(known: Known): unknown {
  return Object.entries(known).map(([name, command]) => {
    const options = Object.entries(all_options(command)).map(([option, about]) => ({ name: option, ...about }));
    const examples = command.examples.map(([line, purpose]) => ({ line, purpose }));
    return { name, words: command.words, summary: command.summary, about: command.about, options, examples };
  });
}

/** The page of a topic, or undefined. */
export function find_topic(name: string): Answer | undefined {
  const topic = Object.hasOwn(TOPICS, name) ? TOPICS[name] : undefined;
  return topic && { data: { topic: name, ...topic }, text: topic.text.trimEnd(), exit: EXIT.ok };
}

/** Help on some commands. */
export function explain(known: Known, paint: Paint = paint_for()): Answer {
  const pages = Object.entries(known).map(([name, command]) => command_text(name, command, paint));
  return { data: { version: VERSION, commands: as_data(known) }, text: pages.join("\n").trimEnd(), exit: EXIT.ok };
}

/** What there is. @param known all commands */
export function explain_all(known: Known, paint: Paint = paint_for()): Answer {
  return { ...explain(known, paint), text: overview(known, paint).trimEnd() };
}
