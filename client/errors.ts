/**
 * Errors as a Node program knows them: `code` is an errno name ("EACCES", "EADDRINUSE"), so that code which handles a
 * failed `listen` handles a refusal of the helper too. What the helper said besides stands in members of its own.
 */
import type { ErrorData } from "../shared/errors.js";
import { find_missing_group, how_to_start } from "./advice.js";

/** Names for the errors that JSON-RPC numbers and gives no errno. */
const RPC_NAMES: Readonly<Record<number, string>> = {
  [-32700]: "ERR_LOWPORT_PARSE",
  [-32600]: "ERR_LOWPORT_INVALID_REQUEST",
  [-32601]: "ERR_LOWPORT_METHOD_NOT_FOUND",
  [-32602]: "ERR_LOWPORT_INVALID_PARAMS",
  [-32603]: "ERR_LOWPORT_INTERNAL",
};

/** What the helper may have said besides. */
type Said = { readonly [K in keyof ErrorData]?: ErrorData[K] | undefined };

/** What went wrong between this program and the port it asked for. */
export class LowportError extends Error {
  /** An errno name such as "EACCES", or ERR_LOWPORT_*. */
  readonly code: string;
  /** The negative errno, as in Node's own errors, if the code is an errno name. */
  readonly errno: number | undefined;
  /** What was asked for: "connect", "listen", or a method of the helper such as "bind". */
  readonly syscall: string;
  /** One sentence: what, on what, why, and what to do. */
  readonly reason: string;
  /** With EACCES and the like on a socket: which. */
  address?: string;
  port?: number;
  /** With EDQUOT: the limit's name and value. */
  readonly limit: string | undefined;
  readonly max: number | undefined;
  /** With EAGAIN: milliseconds after which to try again. */
  readonly retryAfterMs: number | undefined;
  /** With ERR_LOWPORT_INVALID_PARAMS: JSON pointer to what is wrong. */
  readonly path: string | undefined;

  constructor(code: string, syscall: string, reason: string, more: Said & { cause?: unknown } = {}) {
    super(`${syscall} ${code}: ${reason}`, more.cause === undefined ? undefined : { cause: more.cause });
    this.name = "LowportError";
    this.code = code;
    const { constants } = process.getBuiltinModule("node:os"); // only here, because it takes time to load
    const errno = (constants.errno as Record<string, number>)[code];
    this.errno = errno === undefined ? undefined : -errno;
    this.syscall = syscall;
    this.reason = reason;
    this.limit = more.limit;
    this.max = more.max;
    this.retryAfterMs = more.retryAfterMs;
    this.path = more.path;
  }
}

/** An error reply of the helper's as an Error. */
export function error_from_reply(method: string, error: { code: number; message: string; data?: unknown }): LowportError {
  const data = (typeof error.data === "object" && error.data !== null ? error.data : {}) as Partial<ErrorData>;
  const name = error.code < 0 ? RPC_NAMES[error.code] : data.code;
  return new LowportError(name ?? data.code ?? "ERR_LOWPORT", method, data.reason ?? error.message, data);
}

/** Why the helper cannot be reached, and what to do. @param code errno name of the failed connect */
export function unreachable(path: string, code: string): LowportError {
  const join = () => {
    const { has, advice } = find_missing_group(path);
    return has ? "" : `; then ${advice}`;
  };
  const why =
    code === "ENOENT"
      ? `there is no lowport helper at ${path}. ${how_to_start()}${join()}`
      : code === "ECONNREFUSED"
        ? `the lowport helper at ${path} is not running. ${how_to_start()}`
        : code === "EACCES" || code === "EPERM"
          ? `this program may not talk to the lowport helper at ${path}: ${find_missing_group(path).advice}`
          : code === "EMFILE" || code === "ENFILE"
            ? `this program has no descriptor left to reach the lowport helper at ${path}; raise its RLIMIT_NOFILE`
            : code === "EAFNOSUPPORT"
              ? `this program may not have the Unix socket that leads to the lowport helper at ${path}: RestrictAddressFamilies= of ` +
                "its systemd unit lacks AF_UNIX"
              : `the lowport helper at ${path} cannot be reached`;
  return new LowportError(code, "connect", why);
}

export function not_answered(path: string, method: string, ms: number): LowportError {
  return new LowportError("ETIMEDOUT", method, `the lowport helper at ${path} did not answer within ${Math.round(ms)} ms`);
}
