/**
 * The service log: JSON lines on stderr, for people and for the journal. Not the audit log: it may lose a line (a closed
 * pipe must not stop the helper), so nothing that must be known stands only here. What peers say goes under fixed keys.
 */
import { writeSync } from "node:fs";
import { type Logger as Log, pino } from "pino";

const STDERR = 2;

export type { Log };

export function open_log(): Log {
  return pino(
    {
      base: null,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
    },
    {
      write(line: string) {
        try {
          writeSync(STDERR, line);
        } catch {
          // EAGAIN, EPIPE: nobody reads it.
        }
      },
    },
  );
}
