#!/usr/bin/env -S node --disallow-code-generation-from-strings --disable-proto=throw --inspect-publish-uid=stderr
/**
 * lowportd, the root helper. Its life, in order; each step is in the file it names, and any doubt ends it.
 */
import "./signals.js"; // before all others
import { accessSync, constants, realpathSync } from "node:fs";
import { message_of } from "../shared/errors.js";
import { EXIT, VERSION } from "../shared/protocol.js";
import { AuditLog } from "./audit.js";
import { die, read_run_options, step } from "./command-line.js";
import { type Config, load_config } from "./config.js";
import { make_control_socket } from "./control-socket.js";
import { dangerous_variables } from "./environment.js";
import { leave_io_uring } from "./io-uring.js";
import { lock_down } from "./lockdown.js";
import { type Log, open_log } from "./log.js";
import { send_to_syslog, set_resource_limits } from "./posix.js";
import { Server } from "./server.js";
import { act, refuse_debugger } from "./signals.js";
import { distrust } from "./trusted-path.js";

/** The flag without which `eval` and its like work; the first line of this file gives it. */
const NO_CODE = "--disallow-code-generation-from-strings";

async function main(): Promise<void> {
  const no_debugger = () => step(EXIT.config, "lowportd", refuse_debugger);
  no_debugger();

  // 1. A dangerous environment is refused.
  const dangerous = dangerous_variables(process.env);
  if (dangerous.length > 0)
    die(EXIT.config, `lowportd: environment: ${dangerous.join(", ")} may change what code runs as root; unset it`);

  const args = process.argv.slice(2);
  const options = read_run_options(args);
  if (options === undefined) return (await import("./admin/commands.js")).run_command(args);
  step(EXIT.config, "lowportd: io_uring", leave_io_uring);

  // 2. Configuration and rules, from files that are root's alone.
  const { file } = options;
  const config = step(EXIT.config, file, () => load_config(file));
  const log = open_log();
  process.on("uncaughtException", (error) => {
    log.fatal({ details: error.stack }, "a bug; the helper exits");
    process.exit(EXIT.bug);
  });
  if (process.getuid?.() !== 0) die(EXIT.noPermission, "lowportd: must be started as root; it gives that up itself (try sudo)");

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
  no_debugger();
  step(EXIT.bug, "lowportd: lock-down", () => lock_down(config.user.uid, config.user.gid));

  try {
    accessSync(file, constants.R_OK);
  } catch {
    log.warn({ file }, "the helper's user cannot read this, so SIGHUP will take no new rules; chmod o+r it and o+x its folders");
  }

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
  const who = `lowport ${VERSION}, pid ${process.pid}, user ${config.user.name}, ${config.policy.rules.length} rules`;
  audit.stage({ event: "start", reason: who + torn });
  step(EXIT.config, `${file}: /audit/path: ${auditPath}`, () => audit.write());
  audit.send_head();

  // 8. Ready.
  no_debugger();
  server.start();
  handle_signals(file, config, audit, server, log);
  log.info({ socket: path, rules: config.policy.rules.length, codeGeneration: !process.execArgv.includes(NO_CODE) }, "ready");
}

function handle_signals(file: string, started: Config, audit: AuditLog, server: Server, log: Log): void {
  /** Does it, records it, and never ends the helper. */
  function record(event: "reload" | "rotate", work: () => string): void {
    try {
      const reason = work();
      log.info({ reason }, event);
      if (event === "reload") audit.stage({ event, decision: "allow", reason });
    } catch (error) {
      const reason = message_of(error);
      log.error({ reason }, `${event} failed; what was in force stays`);
      audit.stage({ event, decision: "error", reason });
    }
    audit.commit((failed) => failed && log.error({ reason: failed.error.message }, "the audit log cannot be written"));
  }
  const reopen = () => record("rotate", () => (audit.reopen() ? "goes on in a new file" : "the log is the same file"));

  act.SIGUSR1 = reopen;
  act.SIGHUP = () => {
    reopen();
    record("reload", () => {
      const config = load_config(file);
      server.reload({ ...config, socket: started.socket, user: started.user, audit: started.audit });
      const stale = config.fixed === started.fixed ? "" : "; socket, user and audit have changed in the file and take a restart";
      return `${config.policy.rules.length} rules${stale}`;
    });
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const)
    process.on(signal, () => {
      server.stop(() => {
        audit.stage({ event: "stop", reason: signal });
        audit.commit((failed) => {
          if (failed !== undefined) log.error({ reason: failed.error.message }, "the stop could not be recorded");
          audit.send_head();
          log.info({ signal }, "stopped");
          process.exit(EXIT.ok);
        });
      });
    });
}

void main();
