/**
 * The service log: JSON lines on stderr, for people and for the journal; or in syslog, for one who has no stderr. Not the audit log: it may lose a line (a closed
 * pipe must not stop the helper), so nothing that must be known stands only here. What peers say goes under fixed keys.
 */
import { closeSync, openSync, writeSync } from "node:fs";
import { type Logger as Log, pino } from "pino";
import { timestamp } from "../shared/clock.js";
import { send_to_syslog } from "./posix.js";

const STDERR = 2;

export type { Log };

let to_syslog = false;

/** From now on the log goes to syslog, and stderr nowhere. */
export function leave_stderr(): void {
  closeSync(STDERR);
  if (openSync("/dev/null", "r+") !== STDERR) throw new Error("stderr could not be replaced by /dev/null");
  to_syslog = true;
}

export function open_log(): Log {
  return pino(
    { base: null, timestamp: () => `,"time":"${timestamp()}"`, formatters: { level: (label) => ({ level: label }) } },
    {
      write(line: string) {
        try {
          if (to_syslog) send_to_syslog("daemon", line.trimEnd());
          else writeSync(STDERR, line);
        } catch {
          // EAGAIN, EPIPE: nobody reads it.
        }
      },
    },
  );
}
