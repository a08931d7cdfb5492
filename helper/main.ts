#!/usr/bin/env -S node --disallow-code-generation-from-strings --disable-proto=throw
/**
 * lowportd, the root helper. Its life, in order; each step is in the file it names, and any doubt ends it.
 */
import { realpathSync } from "node:fs";
import { parseArgs } from "node:util";
import { message_of } from "../shared/errors.js";
import { DEFAULT_CONFIG, EXIT, VERSION } from "../shared/protocol.js";
import { AuditLog } from "./audit.js";
import { type Config, ConfigFault, load_config } from "./config.js";
import { make_control_socket } from "./control-socket.js";
import { dangerous_variables } from "./environment.js";
import { leave_io_uring } from "./io-uring.js";
import { lock_down } from "./lockdown.js";
import { open_log } from "./log.js";
import { send_to_syslog, set_resource_limits } from "./posix.js";
import { Server } from "./server.js";
import { distrust } from "./trusted-path.js";

const USAGE = `lowportd ${VERSION}: binds privileged ports for programs without root rights

  lowportd [run] [--config FILE]          serve (as root, or with CAP_NET_BIND_SERVICE)
  lowportd check-config [--config FILE]   only read the configuration, and tell each fault

  --config FILE   default ${DEFAULT_CONFIG}; rules come also from rules.d beside it
  --help, --version

Exit: 0 ok, 1 refused, 64 usage, 70 a bug, 77 no permission, 78 configuration or environment.
Signals: SIGHUP reloads the rules and reopens the log, SIGUSR1 reopens the log, SIGTERM and SIGINT stop.
`;

/** The flag without which `eval` and its like work; the first line of this file gives it. */
const NO_CODE = "--disallow-code-generation-from-strings";

/** Ends the process with a line to stderr. */
function die(code: number, message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(code);
}

/** Runs a step that may fail for the reasons its message names. */
function step<T>(code: number, what: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    die(code, error instanceof ConfigFault ? error.message : `${what}: ${message_of(error)}`);
  }
}

function read_command_line(): { command: string; file: string } {
  const options = {
    config: { type: "string", default: DEFAULT_CONFIG },
    help: { type: "boolean" },
    version: { type: "boolean" },
  } as const;
  const { values, positionals } = step(EXIT.usage, "lowportd: usage", () =>
    parseArgs({ options, allowPositionals: true }),
  );
  if (values.help === true) process.stdout.write(USAGE);
  else if (values.version === true) process.stdout.write(`lowportd ${VERSION}\n`);
  if (values.help === true || values.version === true) process.exit(EXIT.ok);
  const [command = "run", ...more] = positionals;
  if (!["run", "check-config"].includes(command) || more.length > 0)
    die(EXIT.usage, `lowportd: there is no command "${positionals.join(" ")}"; see lowportd --help`);
  return { command, file: values.config };
}

function main(): void {
  const { command, file } = read_command_line();

  // 1. A dangerous environment is refused.
  const dangerous = dangerous_variables(process.env);
  if (dangerous.length > 0)
    die(EXIT.config, `lowportd: environment: ${dangerous.join(", ")} may change what code runs as root; unset it`);

  if (command === "run") step(EXIT.config, "lowportd: io_uring", leave_io_uring);

  // 2. Configuration and rules, from files that are root's alone.
  const config = step(EXIT.config, file, () => load_config(file));
  if (command === "check-config")
    return void process.stdout.write(`${file}: ok, ${config.policy.rules.length} rules\n`);
  const log = open_log();
  process.on("uncaughtException", (error) => {
    log.fatal({ details: error.stack }, "a bug; the helper exits");
    process.exit(EXIT.bug);
  });
  process.on("SIGUSR1", () => undefined); // from here on it does not start node's debugger
  if (process.getuid?.() !== 0)
    die(EXIT.noPermission, "lowportd: must be started as root; it gives that up itself (try sudo)");

  for (const path of [process.execPath, realpathSync(process.argv[1] ?? "")]) {
    const why = distrust(path);
    if (why !== undefined)
      log.warn({ reason: why }, "somebody else than root can change what root runs here; install it elsewhere");
  }

  // 3. The control socket, while root can make it in a folder that nobody else can write.
  process.umask(0o027);
  const { path, gid, mode } = config.socket;
  const listener = step(EXIT.refused, `lowportd: ${path}`, () => make_control_socket(path, gid, mode));

  // 4. No core files; descriptors.
  step(EXIT.bug, "lowportd: setrlimit", set_resource_limits);

  // 5. Root is given up for ever, and that is proved.
  step(EXIT.bug, "lowportd: lock-down", () => lock_down(config.user.uid, config.user.gid));

  // 6. The audit log, as the user that owns its folder.
  const {
    audit: { path: auditPath, durability, syslog },
  } = config;
  const audit = step(
    EXIT.config,
    `${file}: /audit/path: ${auditPath}`,
    () => new AuditLog(auditPath, durability, syslog ? send_to_syslog : undefined),
  );

  // 7. The start is on record before anything is served.
  const server = new Server(listener, config, audit, log);
  const torn = audit.torn === "" ? "" : `; the last line was torn and is taken out: ${audit.torn}`;
  audit.stage({ event: "start", reason: server.describe() + torn });
  step(EXIT.config, `${file}: /audit/path: ${auditPath}`, () => audit.write());
  audit.send_head();

  // 8. Ready.
  server.start();
  handle_signals(file, config, audit, server, log);
  log.info(
    { socket: path, rules: config.policy.rules.length, codeGeneration: !process.execArgv.includes(NO_CODE) },
    "ready",
  );
}

function handle_signals(
  file: string,
  started: Config,
  audit: AuditLog,
  server: Server,
  log: ReturnType<typeof open_log>,
): void {
  /** Does it, records it, and never ends the helper. */
  function record(event: "reload" | "rotate", work: () => string): void {
    try {
      const reason = work();
      log.info({ reason }, event);
      if (event === "reload") audit.stage({ event, decision: "allow", reason });
    } catch (error) {
      const reason = message_of(error);
      log.error({ reason }, `${event} failed; all stays as it was`);
      audit.stage({ event, decision: "error", reason });
    }
    audit.commit((error) => error && log.error({ reason: error.message }, "the audit log cannot be written"));
  }
  const reopen = () => record("rotate", () => (audit.reopen() ? "goes on in a new file" : "the log is the same file"));

  process.on("SIGHUP", () => {
    reopen();
    record("reload", () => {
      const config = load_config(file);
      server.reload({ ...config, socket: started.socket, user: started.user, audit: started.audit });
      const stale =
        config.fixed === started.fixed ? "" : "; socket, user and audit have changed in the file and take a restart";
      return `${config.policy.rules.length} rules${stale}`;
    });
  });
  process.removeAllListeners("SIGUSR1").on("SIGUSR1", reopen);
  for (const signal of ["SIGTERM", "SIGINT"] as const)
    process.on(signal, () => {
      server.stop(() => {
        audit.stage({ event: "stop", reason: signal });
        audit.commit((error) => {
          if (error !== undefined) log.error({ reason: error.message }, "the stop could not be recorded");
          audit.send_head();
          log.info({ signal }, "stopped");
          process.exit(EXIT.ok);
        });
      });
    });
}

main();
