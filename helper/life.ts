/** What the signals do: SIGHUP reloads and reopens the log, SIGUSR1 reopens the log, SIGTERM and SIGINT stop. */
import { message_of } from "../shared/errors.js";
import { EXIT } from "../shared/protocol.js";
import type { AuditLog } from "./audit.js";
import { type Config, load_config } from "./config.js";
import type { Log } from "./log.js";
import type { Server } from "./server.js";
import { act } from "./signals.js";
import type { Systemd } from "./systemd.js";

/** @param file the configuration. @param started what the helper was started with: parts of it take a restart to change */
export function handle_signals(file: string, started: Config, audit: AuditLog, server: Server, systemd: Systemd, log: Log): void {
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
    systemd.notify(`RELOADING=1\nMONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`);
    reopen();
    record("reload", () => {
      const config = load_config(file);
      server.reload({ ...config, socket: started.socket, user: started.user, audit: started.audit });
      const stale = config.fixed === started.fixed ? "" : "; socket, user and audit have changed in the file and take a restart";
      return `${config.policy.rules.length} rules${stale}`;
    });
    systemd.notify("READY=1");
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const)
    process.on(signal, () => {
      systemd.notify("STOPPING=1");
      server.stop(() => {
        const kept = [...server.leases.byId.keys()];
        audit.stage({ event: "stop", reason: [`${signal}; leases kept by systemd: ${kept.length}`, ...kept].join(" ") });
        audit.commit((failed) => {
          if (failed !== undefined) log.error({ reason: failed.error.message }, "the stop could not be recorded");
          audit.send_head();
          log.info({ signal }, "stopped");
          process.exit(EXIT.ok);
        });
      });
    });
}
