/**
 * The attack surface, whole: every method that a peer can call, who may call it, what it takes and what it gives.
 * The validators, the OpenRPC document, the types on both sides and the tests are made from this table; what is not in
 * it cannot be called.
 */
import { BIND_DEFAULTS, MAX_HOLD_SECONDS } from "./protocol.js";
import type { Schema, Static } from "./schema.js";

/** `policy`: the rules decide. `owner`: the lease's own uid, and operators. `anyone`: any peer, about itself. */
export type Who = "policy" | "owner" | "operator" | "anyone";

interface Method {
  readonly summary: string;
  readonly who: Who;
  readonly params: Schema;
  readonly result: Schema;
}

const protocol = { type: "string", enum: ["tcp", "udp"], description: "Transport protocol." } as const;
const port = { type: "integer", minimum: 1, maximum: 65_535, description: "Port number." } as const;
const address = {
  type: "string",
  pattern: "^[0-9A-Fa-f:.]{2,45}$",
  default: BIND_DEFAULTS.address,
  description: "IP literal without a zone. `::` without ipv6Only reaches IPv4 too and needs a rule for it.",
} as const;
const ipv6Only = { type: "boolean", default: false, description: "IPv6 alone (IPV6_V6ONLY, ipv6(7))." } as const;
const leaseId = { type: "string", pattern: "^[0-9A-Za-z_-]{1,64}$", description: "Opaque name of a lease." } as const;
const label = {
  type: "string",
  pattern: "^[A-Za-z0-9._-]{0,64}$",
  default: "",
  description: "A name for people.",
} as const;
const hold = {
  type: "integer",
  minimum: 0,
  maximum: MAX_HOLD_SECONDS,
  default: 0,
  description: "Seconds to keep the listener for its owner after the last connection that has it closes.",
} as const;
const count = { type: "integer", minimum: 0 } as const;
const id = { type: "integer", minimum: 0, maximum: 4_294_967_295 } as const;
const time = { type: "string", description: "ISO 8601, UTC, milliseconds." } as const;
const none = { type: "object", properties: {}, additionalProperties: false } as const;
const done = <N extends string>(name: N) =>
  ({
    type: "object",
    properties: { [name]: { const: true } } as { [K in N]: { const: true } },
    required: [name],
  }) as const;

const bindResult = {
  type: "object",
  properties: {
    lease: leaseId,
    protocol,
    address: { type: "string", description: "The address in canonical form (RFC 5952; ::ffff:a.b.c.d is a.b.c.d)." },
    port,
    resumed: { type: "boolean", description: "True if this is the same socket as before, kept by `hold`." },
    fds: {
      type: "integer",
      minimum: 1,
      maximum: 1,
      description: "Descriptors on this reply's first byte (SCM_RIGHTS).",
    },
  },
  required: ["lease", "protocol", "address", "port", "resumed", "fds"],
} as const;

const leaseEntry = {
  type: "object",
  properties: {
    lease: leaseId,
    uid: id,
    protocol,
    address: { type: "string" },
    port,
    state: { type: "string", enum: ["active", "held"] },
    label,
    hold,
    since: time,
  },
  required: ["lease", "uid", "protocol", "address", "port", "state", "label", "hold", "since"],
} as const;

const you = {
  type: "object",
  properties: { uid: id, gid: id, groups: { type: "array", items: id }, operator: { type: "boolean" } },
  required: ["uid", "gid", "groups", "operator"],
} as const;

export const METHODS = {
  bind: {
    summary: "Binds a socket (and listens, for TCP) and passes it to the caller, non-blocking.",
    who: "policy",
    params: {
      type: "object",
      properties: {
        protocol,
        port,
        address,
        ipv6Only,
        backlog: {
          type: "integer",
          minimum: 1,
          maximum: 65_535,
          default: BIND_DEFAULTS.backlog,
          description: "listen(2); TCP.",
        },
        reusePort: { type: "boolean", default: false, description: "SO_REUSEPORT (socket(7)), if the rule lets it." },
        share: {
          type: "boolean",
          default: false,
          description: "One more reference to a socket that this uid has active.",
        },
        hold,
        label,
      },
      required: ["protocol", "port"],
      additionalProperties: false,
    },
    result: bindResult,
  },
  release: {
    summary:
      "Gives up this connection's reference to a lease, or, where it has none (a held lease, an operator), the lease itself.",
    who: "owner",
    params: { type: "object", properties: { lease: leaseId }, required: ["lease"], additionalProperties: false },
    result: done("released"),
  },
  list: {
    summary: "The caller's leases; for an operator those of all users.",
    who: "anyone",
    params: none,
    result: { type: "object", properties: { leases: { type: "array", items: leaseEntry } }, required: ["leases"] },
  },
  check: {
    summary: "What the policy says to a bind, without binding. Only an operator may ask for another uid.",
    who: "anyone",
    params: {
      type: "object",
      properties: {
        protocol,
        port,
        address,
        ipv6Only,
        uid: { ...id, description: "Whom to ask for; operators only." },
      },
      required: ["protocol", "port"],
      additionalProperties: false,
    },
    result: {
      type: "object",
      properties: { allowed: { type: "boolean" }, rule: { type: ["string", "null"] }, reason: { type: "string" } },
      required: ["allowed", "rule", "reason"],
    },
  },
  revoke: {
    summary: "Takes a socket back from everyone who holds it; established connections live on.",
    who: "operator",
    params: { type: "object", properties: { lease: leaseId }, required: ["lease"], additionalProperties: false },
    result: done("revoked"),
  },
  status: {
    summary: "What the helper is doing, and who it takes the caller for.",
    who: "anyone",
    params: none,
    result: {
      type: "object",
      properties: {
        version: { type: "string" },
        protocolVersion: { const: 1 },
        pid: count,
        uptimeSeconds: count,
        connections: count,
        leases: count,
        policyLoadedAt: time,
        auditSeq: count,
        you,
      },
      required: [
        "version",
        "protocolVersion",
        "pid",
        "uptimeSeconds",
        "connections",
        "leases",
        "policyLoadedAt",
        "auditSeq",
        "you",
      ],
    },
  },
  "rpc.discover": {
    summary: "This interface as an OpenRPC document.",
    who: "anyone",
    params: none,
    result: { type: "object" },
  },
} as const satisfies Record<string, Method>;

export type MethodName = keyof typeof METHODS;
export type Params<M extends MethodName> = Static<(typeof METHODS)[M]["params"]>;
export type Result<M extends MethodName> = M extends "rpc.discover" ? object : Static<(typeof METHODS)[M]["result"]>;
export type LeaseEntry = Static<typeof leaseEntry>;
