/** The arguments of lowportd, and how it ends when a step fails: one line to stderr and a code of sysexits(3). */
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { message_of } from "../shared/errors.js";
import { DEFAULT_CONFIG, EXIT, VERSION } from "../shared/protocol.js";
import { ConfigFault } from "./config.js";

const USAGE = `lowportd ${VERSION}: binds privileged ports for programs without root rights

  lowportd [run] [--config FILE]          serve; started as root, which it gives up
  lowportd check-config [--config FILE]   only read the configuration, and tell each fault

  --config FILE   default ${DEFAULT_CONFIG}; rules come also from rules.d beside it
  --json (check-config), --help, --version

Exit: 0 ok, 1 refused, 64 usage, 70 a bug, 77 no permission, 78 configuration or environment.
Signals: SIGHUP reloads the rules and reopens the log, SIGUSR1 reopens the log, SIGTERM and SIGINT stop.
`;

/** Ends the process with a line to stderr. */
export function die(code: number, message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(code);
}

/** Runs a step that may fail for the reasons its message names; then the process ends with `code`. */
export function step<T>(code: number, what: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    die(code, error instanceof ConfigFault ? error.message : `${what}: ${message_of(error)}`);
  }
}

export interface CommandLine {
  readonly command: "run" | "check-config";
  /** The configuration. */
  readonly file: string;
  readonly json: boolean;
}

/** Reads the arguments; ends the process if they are wrong, or with --help and --version. */
export function read_command_line(): CommandLine {
  const options = {
    config: { type: "string", default: DEFAULT_CONFIG },
    json: { type: "boolean", default: false },
    help: { type: "boolean" },
    version: { type: "boolean" },
  } as const;
  const { values, positionals } = step(EXIT.usage, "lowportd: usage", () => parseArgs({ options, allowPositionals: true }));
  if (values.help === true) process.stdout.write(USAGE);
  else if (values.version === true) process.stdout.write(`lowportd ${VERSION}\n`);
  if (values.help === true || values.version === true) process.exit(EXIT.ok);
  const [command = "run", ...more] = positionals;
  if ((command !== "run" && command !== "check-config") || more.length > 0)
    die(EXIT.usage, `lowportd: there is no command "${positionals.join(" ")}"; see lowportd --help`);
  return { command, file: resolve(values.config), json: values.json };
}

/** `check-config`: tells what is wrong with the configuration, and ends. */
export function check_config({ file, json }: CommandLine, load: (file: string) => { rules: number }): never {
  try {
    const { rules } = load(file);
    process.stdout.write(json ? `${JSON.stringify({ ok: true, rules })}\n` : `${file}: ok, ${rules} rules\n`);
    process.exit(EXIT.ok);
  } catch (error) {
    const faults = error instanceof ConfigFault ? error.faults : [message_of(error)];
    if (json) process.stdout.write(`${JSON.stringify({ ok: false, faults })}\n`);
    die(EXIT.config, faults.join("\n"));
  }
}
