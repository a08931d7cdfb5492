/**
 * The commands of lowportd that are not the daemon. They run as the admin who types them and end; the daemon imports this
 * only to become one of them, so nothing here is loaded by a process that serves.
 */
import { parseArgs } from "node:util";
import { message_of } from "../../shared/errors.js";
import { DEFAULT_CONFIG, EXIT, VERSION } from "../../shared/protocol.js";
import { die, step } from "../command-line.js";
import { ConfigFault, load_config } from "../config.js";

const USAGE = `lowportd ${VERSION}: binds privileged ports for programs without root rights

  lowportd [run] [--config FILE]          serve, in the foreground; started as root, which it gives up
        [--pid-file FILE] [--ready-fd N] [--syslog]
  lowportd check-config [--config FILE]   only read the configuration, and tell each fault

  --config FILE    default ${DEFAULT_CONFIG}; rules come also from rules.d beside it
  --pid-file FILE  written while it is root, in a folder that is root's alone
  --ready-fd N     writes its process id and a newline there when it serves, and closes it
  --syslog         as soon as it serves: log to syslog (daemon) and not to stderr
  --json (check-config), --help, --version

Exit: 0 ok, 1 refused, 64 usage, 70 a bug, 77 no permission, 78 configuration or environment.
Signals: SIGHUP reloads the rules and reopens the log, SIGUSR1 reopens the log, SIGTERM and SIGINT stop.
`;

const OPTIONS = {
  config: { type: "string", default: DEFAULT_CONFIG },
  json: { type: "boolean", default: false },
  help: { type: "boolean", default: false },
  version: { type: "boolean", default: false },
} as const;

function read_args(args: readonly string[]) {
  return step(EXIT.usage, "lowportd: usage", () => parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true }));
}
type Values = ReturnType<typeof read_args>["values"];

/** `check-config`: tells what is wrong with the configuration, and ends. */
function check_config({ config: file, json }: Values): never {
  try {
    const rules = load_config(file).policy.rules.length;
    process.stdout.write(json ? `${JSON.stringify({ ok: true, rules })}\n` : `${file}: ok, ${rules} rules\n`);
    process.exit(EXIT.ok);
  } catch (error) {
    const faults = error instanceof ConfigFault ? error.faults : [message_of(error)];
    if (json) process.stdout.write(`${JSON.stringify({ ok: false, faults })}\n`);
    die(EXIT.config, faults.join("\n"));
  }
}

const COMMANDS: Record<string, (values: Values) => never | Promise<never>> = {
  "check-config": check_config,
};

/** Runs the command that `args` name, and ends the process. */
export async function run_command(args: readonly string[]): Promise<never> {
  const { values, positionals } = read_args(args);
  if (values.help || values.version) {
    process.stdout.write(values.help ? USAGE : `lowportd ${VERSION}\n`);
    process.exit(EXIT.ok);
  }
  const [name = "", ...more] = positionals;
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined || more.length > 0)
    die(EXIT.usage, `lowportd: there is no command "${positionals.join(" ")}"; see lowportd --help`);
  return command(values);
}
