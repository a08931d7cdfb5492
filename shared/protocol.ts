/**
 * The one page to read: version, paths, limits and errors of lowport protocol 1. Nothing here does anything; every other
 * file takes its numbers from here. The methods and their schemas are in methods.ts.
 */

/** The version of this program, as `status` and `--version` say it; a test holds it equal to package.json. */
export const VERSION = "0.1.0";

/** The version of the protocol. It changes only when an existing client would break. */
export const PROTOCOL_VERSION = 1;

/** Where the helper listens unless the config or LOWPORT_SOCKET says otherwise. */
export const DEFAULT_SOCKET = "/run/lowport/lowport.sock";

/** Where the helper looks for its configuration; rules come also from `rules.d` beside it. */
export const DEFAULT_CONFIG = "/etc/lowport/lowport.json";

/** Bytes in a line, without its newline. More is answered -32600 and closes the connection. */
export const MAX_LINE_BYTES = 65_536;

/** Milliseconds from a line's first byte to its newline; after that the connection is closed. */
export const LINE_TIMEOUT_MS = 10_000;

/** Requests in one batch. */
export const MAX_BATCH = 16;

/** Characters of a string id. */
export const MAX_ID_LENGTH = 128;

/** Seconds that a listener may at most be held for an absent owner. */
export const MAX_HOLD_SECONDS = 3600;

/** Seconds that a lease is held at least for its owner after a restart of the helper that it outlived. */
export const RESTART_HOLD_SECONDS = 60;

/** What `bind` takes when a parameter is left out. `backlog` counts connections not yet accepted (listen(2)). */
export const BIND_DEFAULTS = {
  address: "::",
  ipv6Only: false,
  backlog: 511,
  reusePort: false,
  share: false,
  hold: 0,
  label: "",
} as const;

/**
 * How much one user may take, so that none can starve the others. All are counted by uid and not by connection, because
 * connections cost nothing. Each is a member of `limits` in the config.
 */
export const LIMITS = {
  /** Connections of one uid at a time. */
  connectionsPerUid: 16,
  /** Sockets granted to one uid at a time, every reference of a shared one counted. */
  socketsPerUid: 64,
  /** Connections of all uids at a time; each costs one descriptor and about 1 KiB. */
  connections: 1024,
  /** Requests a second of one uid, over time. A connection costs as much as a request, for it is recorded like one. */
  requestsPerSecond: 200,
  /** Requests of one uid at once, after a pause. */
  requestBurst: 400,
  /** Requests of one connection whose replies have not left yet; beyond it the helper stops reading. */
  requestsInFlight: 16,
} as const;
export type Limits = { [K in keyof typeof LIMITS]: number };

/** The numbers that JSON-RPC 2.0 fixes (section 5.1). */
export const PARSE_ERROR = -32700;
export const INVALID_REQUEST = -32600;
export const METHOD_NOT_FOUND = -32601;
export const INVALID_PARAMS = -32602;
export const INTERNAL_ERROR = -32603;

/** lowport's own errors: the name goes into `error.data.code`, the number into `error.code`. */
export const ERRORS = {
  EACCES: { code: 1, cause: "no rule allows it", cure: "an admin adds it to a rule" },
  EADDRINUSE: { code: 2, cause: "the address is taken", cure: "stop the other program, or ask with share" },
  EADDRNOTAVAIL: { code: 3, cause: "not an address of this host", cure: "use one that `ip address` lists" },
  EDQUOT: { code: 4, cause: "a limit of the rule or of the uid is reached", cure: "release something, or raise it" },
  EAGAIN: { code: 5, cause: "too many requests", cure: "wait retryAfterMs" },
  ENOENT: { code: 6, cause: "no such lease, or not yours", cure: "see `list`" },
  EIO: { code: 7, cause: "the audit log cannot be written", cure: "free its disk; nothing was granted" },
  ESHUTDOWN: { code: 8, cause: "the helper is stopping", cure: "connect again" },
  EMFILE: { code: 9, cause: "the helper is out of descriptors", cure: "raise its limit; nothing was granted" },
  EINTERNAL: { code: INTERNAL_ERROR, cause: "a bug or fault", cure: "see the audit record data.auditSeq" },
} as const;
export type ErrorName = keyof typeof ERRORS;

/** sysexits(3) numbers as the commands use them. */
export const EXIT = {
  ok: 0,
  refused: 1,
  foundWrong: 2,
  usage: 64,
  unreachable: 69,
  bug: 70,
  noPermission: 77,
  config: 78,
};
