/**
 * The commands of lowportd that are not the daemon. They run as the admin who types them and end; the daemon imports this
 * only to become one of them, so nothing here is loaded by a process that serves.
 */
import { parseArgs } from "node:util";
import { DEFAULT_CONFIG, EXIT, VERSION } from "../../shared/protocol.js";
import { die } from "../command-line.js";
import { check_config } from "./check-config.js";
import { start_daemon } from "./daemonize.js";
import { doctor } from "./doctor.js";
import { install } from "./install.js";
import { uninstall } from "./uninstall.js";

const USAGE = `lowportd ${VERSION}: binds privileged ports for programs without root rights

  lowportd [run] [--config FILE] [--pid-file FILE] [--ready-fd N] [--syslog]
        serve, in the foreground; started as root, which it gives up, or by its systemd units
  lowportd run --daemon [--config FILE] [--pid-file FILE]
        serve in the background; returns when it serves
  lowportd check-config [--config FILE] [--json]
        only read the configuration, and tell each fault
  lowportd doctor [--config FILE] [--json]
        what an admin would check: each ok, or with its cure
  lowportd install [--allow WHO:PROTO:PORTS[@ADDRESS]]... [--init systemd|openrc|sysv] [--node FILE] [--hardened] [--dry-run] [--json]
        install it as a service, or upgrade it; WHO is a user or %GROUP, as in --allow www-data:tcp:80,443
  lowportd uninstall [--purge] [--dry-run] [--json]
        remove all of it but the audit log

  --config FILE    default ${DEFAULT_CONFIG}; rules come also from rules.d beside it
  --pid-file FILE  written while it is root, in a folder that is root's alone; with --daemon the default is lowport.pid
                   beside the control socket
  --ready-fd N     writes its process id and a newline there when it serves, and closes it
  --syslog         as soon as it serves: log to syslog (daemon) and not to stderr
  --allow          may be given more than once; PROTO is tcp, udp or tcp+udp
  --init           if it is not to be found out
  --node FILE      the Node that the service gets a copy of; default: the one that runs this
  --hardened       without V8's compilers, so that no page can be both written and run; slower; systemd only
  --dry-run        tell every change, and make none
  --purge          the audit log too
  --json           the answer as JSON
  --help, --version

Exit: 0 ok, 1 refused or failed, 2 doctor found something wrong, 64 usage, 70 a bug, 77 no permission, 78 configuration or
environment.
Signals: SIGHUP reloads the rules and reopens the log, SIGUSR1 reopens the log, SIGTERM and SIGINT stop.
`;

/** Each takes its own arguments, without its name, and ends the process. */
export const COMMANDS: Record<string, (args: readonly string[]) => never | Promise<never>> = {
  "check-config": check_config,
  doctor,
  install,
  uninstall,
  run: start_daemon,
};

/** Runs the command that `args` name, and ends the process. */
export async function run_command(args: readonly string[]): Promise<never> {
  const text = { type: "string" } as const;
  const { values, tokens } = parseArgs({
    args: [...args],
    options: { config: text, "pid-file": text },
    allowPositionals: true,
    strict: false,
    tokens: true,
  });
  const { help, version } = values as Record<string, unknown>;
  if (help || version) {
    process.stdout.write(help ? USAGE : `lowportd ${VERSION}\n`);
    process.exit(EXIT.ok);
  }
  const word = tokens.find(({ kind }) => kind === "positional");
  const name = word?.kind === "positional" ? word.value : "run";
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined) die(EXIT.usage, `lowportd: there is no command "${name}"; see lowportd --help`);
  return command(word === undefined ? args : args.toSpliced(word.index, 1));
}
