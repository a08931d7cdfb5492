#!/usr/bin/env -S node --disable-proto=throw --inspect-publish-uid=stderr --v8-pool-size=1
/**
 * lowportd, the root helper. Its life, in order; each step is in the file it names, and any doubt ends it.
 */
import "./signals.js"; // before all others
import "./no-eval.js"; // before what is not ours
import { accessSync, closeSync, constants, realpathSync, writeSync } from "node:fs";
import { errno_of, message_of } from "../shared/errors.js";
import { wait_in_place_of_node } from "../shared/poll.js";
import { EXIT, VERSION } from "../shared/protocol.js";
import { AuditLog, type AuditRecord, DISK_TROUBLE } from "./audit.js";
import { die, read_run_options, step } from "./command-line.js";
import { load_config } from "./config.js";
import { check_control_socket, make_control_socket, write_pid_file } from "./control-socket.js";
import { dangerous_variables } from "./environment.js";
import { leave_io_uring } from "./io-uring.js";
import { LeaseStore } from "./lease-store.js";
import { handle_signals } from "./life.js";
import { lock_down } from "./lockdown.js";
import { leave_stderr, open_log } from "./log.js";
import { send_to_syslog, set_resource_limits } from "./posix.js";
import { Server } from "./server.js";
import { refuse_debugger } from "./signals.js";
import { passed_descriptors, Systemd } from "./systemd.js";
import { distrust } from "./trusted-path.js";
import { warm_up } from "./warm-up.js";

async function main(): Promise<void> {
  // 1. A dangerous environment is refused, and a debugger.
  const dangerous = dangerous_variables(process.env);
  if (dangerous.length > 0)
    die(EXIT.config, `lowportd: environment: ${dangerous.join(", ")} may change what code runs as root; unset it`);
  const no_debugger = () => step(EXIT.config, "lowportd", refuse_debugger);
  no_debugger();

  const args = process.argv.slice(2);
  const options = read_run_options(args);
  if (options === undefined) return (await import("./admin/commands.js")).run_command(args);
  const passed = passed_descriptors();
  const { file, pidFile, readyFd } = options;
  step(EXIT.config, "lowportd: io_uring", () =>
    leave_io_uring([...passed.values(), ...(readyFd === undefined ? [] : [readyFd])]),
  );

  // 2. Configuration and rules, from files that are root's alone.
  const config = step(EXIT.config, file, () => load_config(file));
  const log = open_log();
  process.on("uncaughtException", (error) => {
    log.fatal({ details: error.stack }, "a bug; the helper exits");
    process.exit(EXIT.bug);
  });
  const control = passed.get("control");
  if (process.getuid?.() !== 0 && control === undefined)
    die(EXIT.noPermission, "lowportd: must be started as root, which it gives up itself (try sudo), or by its systemd units");

  for (const path of [process.execPath, realpathSync(process.argv[1] ?? "")]) {
    const why = distrust(path);
    if (why !== undefined)
      log.warn({ reason: why }, "somebody else than root can change what root runs here; install it elsewhere");
  }

  // 3. The control socket, made by systemd, or while root can make it in a folder that nobody else can write.
  process.umask(0o027);
  const { path, gid, mode } = config.socket;
  if (control !== undefined) step(EXIT.config, `lowportd: ${path}`, () => check_control_socket(control, path, gid, mode));
  const listener = control ?? step(EXIT.refused, `lowportd: ${path}`, () => make_control_socket(path, gid, mode));
  if (pidFile !== undefined) step(EXIT.refused, `lowportd: ${pidFile}`, () => write_pid_file(pidFile));

  // 4. No core files; descriptors. Who starts the helper unprivileged sets its limits.
  if (process.getuid?.() === 0) step(EXIT.bug, "lowportd: setrlimit", set_resource_limits);

  // 5. Root is given up for ever, or never was, and that is proved.
  no_debugger();
  step(EXIT.bug, "lowportd: lock-down", () => lock_down(config.user.uid, config.user.gid));

  try {
    accessSync(file, constants.R_OK);
  } catch {
    log.warn({ file }, "the helper's user cannot read this, so SIGHUP will take no new rules; chmod o+r it and o+x its folders");
  }

  // 6. The audit log, as the user that owns its folder.
  const { path: auditPath, durability, syslog } = config.audit;
  const audit = step(
    EXIT.config,
    `${file}: /audit/path: ${auditPath}`,
    () => new AuditLog(auditPath, durability, syslog ? (head) => send_to_syslog("authpriv", head) : undefined),
  );

  // 7. Leases that systemd has kept from the helper before; the start is on record before anything is served.
  const systemd = step(EXIT.bug, "lowportd", () => new Systemd());
  const store = new LeaseStore(systemd, log, control === undefined ? undefined : process.env["RUNTIME_DIRECTORY"]);
  const lost: AuditRecord[] = [];
  const on_lost = (lease: string, reason: string) => lost.push({ event: "lease-end", lease, reason });
  const kept = step(EXIT.bug, "lowportd: runtime folder", () => store.take_back(passed, on_lost));
  const server = new Server(listener, config, audit, log, store);
  const torn = audit.torn === "" ? "" : `; the last line was torn and is taken out: ${audit.torn}`;
  const who = `lowport ${VERSION}, pid ${process.pid}, user ${config.user.name}, ${config.policy.rules.length} rules`;
  const back = store.keeps ? [`, leases of the helper before: ${kept.length}`, ...kept.map(({ id }) => id)].join(" ") : "";
  audit.stage({ event: "start", reason: who + back + torn });
  for (const record of lost) audit.stage(record);
  step(EXIT.config, `${file}: /audit/path: ${auditPath}`, () => {
    try {
      audit.write();
    } catch (error) {
      if (!DISK_TROUBLE.has(errno_of(error))) throw error;
      log.error({ reason: message_of(error) }, "the start is not on record yet; until it is, calls are refused");
    }
  });
  audit.send_head();

  wait_in_place_of_node();

  // 8. Ready, and warm: whoever waits for it is told.
  await warm_up(config, log);
  no_debugger();
  server.start(kept);
  handle_signals(file, config, audit, server, systemd, log);
  if (options.syslog) leave_stderr();
  log.info({ socket: path, rules: config.policy.rules.length }, "ready");
  systemd.notify(`READY=1\nSTATUS=${server.load}`);
  systemd.start_watchdog(() => server.load);
  if (readyFd !== undefined)
    step(EXIT.usage, `lowportd: --ready-fd ${readyFd}`, () => {
      writeSync(readyFd, `${process.pid}\n`);
      closeSync(readyFd);
    });
}

void main();
