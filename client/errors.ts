/**
 * Errors as a Node program knows them: `code` is an errno name ("EACCES", "EADDRINUSE"), so that code which handles a
 * failed `listen` handles a refusal of the helper too. What the helper said besides stands in members of its own.
 */
import { readFileSync, statSync } from "node:fs";
import { constants, userInfo } from "node:os";
import type { ErrorData } from "../shared/errors.js";

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

interface GroupEntry {
  name: string;
  members: readonly string[];
}

/** A group by its id, from /etc/group; undefined if it stands elsewhere (LDAP) or cannot be read. */
function find_group(gid: number): GroupEntry | undefined {
  try {
    for (const line of readFileSync("/etc/group", "utf8").split("\n")) {
      const [name = "", , id, members = ""] = line.split(":");
      if (Number(id) === gid && name !== "") return { name, members: members.split(",") };
    }
  } catch {
    // Then it is told by its number.
  }
  return undefined;
}

function user_name(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid ${process.getuid?.() ?? "?"}`;
  }
}

function join_group(path: string): string {
  let gid: number | undefined;
  try {
    gid = statSync(path).gid;
  } catch {
    // Not there, or in a folder that this user may not look into.
  }
  const group = gid === undefined ? undefined : find_group(gid);
  const name = gid === undefined ? "lowport" : (group?.name ?? String(gid));
  const user = user_name();
  if (process.getuid?.() === 0) return "root needs no group for it";
  if (group?.members.includes(user) === true && gid !== undefined && process.getgroups?.().includes(gid) === false)
    return `user ${user} is in group "${name}", but this session began before that: log in again`;
  return `user ${user} must be in group "${name}" (sudo usermod -aG ${name} ${user}), which takes a new login to have effect`;
}

/** Why the helper cannot be reached, and what to do. @param code errno name of the failed connect */
export function unreachable(path: string, code: string): LowportError {
  const start = "Start it as root (lowportd)";
  const why =
    code === "ENOENT"
      ? `there is no lowport helper at ${path}. ${start}; then ${join_group(path)}`
      : code === "ECONNREFUSED"
        ? `the lowport helper at ${path} is not running. ${start}`
        : code === "EACCES" || code === "EPERM"
          ? `this program may not talk to the lowport helper at ${path}: ${join_group(path)}`
          : code === "EMFILE" || code === "ENFILE"
            ? `this program has no descriptor left to reach the lowport helper at ${path}; raise its RLIMIT_NOFILE`
            : `the lowport helper at ${path} cannot be reached`;
  return new LowportError(code, "connect", why);
}
