/** How the process ends after an error: the exit codes of shared/protocol.ts. */
import { errno_of } from "../../shared/errors.js";
import { EXIT } from "../../shared/protocol.js";
import { LowportError } from "../errors.js";
import { Usage } from "./command.js";

/** Errors of who may not. */
export const FORBIDDEN: ReadonlySet<string> = new Set(["EACCES", "EPERM"]);
/** Errors of a connection that is not there, breaks, or leads to something else. */
const UNREACHABLE = new Set(["ETIMEDOUT", "ECONNRESET", "EPROTO"]);

/** The exit code for an error. */
export function exit_of(error: unknown): number {
  if (error instanceof Usage) return EXIT.usage;
  const code = errno_of(error) ?? "";
  const forbidden = FORBIDDEN.has(code);
  if (!(error instanceof LowportError)) return forbidden ? EXIT.noPermission : EXIT.bug;
  if (error.syscall === "connect") return forbidden ? EXIT.noPermission : EXIT.unreachable;
  return UNREACHABLE.has(code) ? EXIT.unreachable : EXIT.refused;
}
