/** The schema of lowport.json and of the files in rules.d: the one description of what an admin may write. */
import { DEFAULT_SOCKET, LIMITS, MAX_HOLD_SECONDS } from "./protocol.js";
import type { Static } from "./schema.js";

const principal = {
  anyOf: [
    { type: "string", pattern: "^([0-9]{1,10}|[A-Za-z_][A-Za-z0-9_.@-]{0,254}\\$?)$" },
    { type: "integer", minimum: 0, maximum: 4_294_967_293 },
  ],
  description: "A name, or a numeric id.",
} as const;
const principals = { type: "array", items: principal, default: [] } as const;
const path = { type: "string", pattern: "^/[^\\u0000]{1,106}$" } as const;
const limit = <N extends number>(value: N, minimum: number) =>
  ({ type: "integer", minimum, maximum: 1_000_000, default: value }) as const;

const rule = {
  type: "object",
  properties: {
    name: {
      type: "string",
      pattern: "^[A-Za-z0-9._-]{1,64}$",
      description: "Unique; named in answers and in the audit log.",
    },
    users: principals,
    groups: { ...principals, description: "Supplementary groups count too." },
    protocols: { type: "array", items: { type: "string", enum: ["tcp", "udp"] }, default: ["tcp"] },
    addresses: {
      type: "array",
      items: { type: "string", pattern: "^(\\*|[0-9A-Fa-f:.]{2,45}(/[0-9]{1,3})?)$" },
      default: ["*"],
      description:
        "`*`, an IP literal, or a network in CIDR notation. The wildcard addresses 0.0.0.0 and :: are in no network but /0.",
    },
    ports: {
      type: "array",
      items: {
        anyOf: [
          { type: "integer", minimum: 1, maximum: 65_535 },
          { type: "string", pattern: "^[0-9]{1,5}-[0-9]{1,5}$" },
        ],
      },
      description: "Numbers, and ranges such as `8000-8099`.",
    },
    maxSockets: { ...limit(LIMITS.socketsPerUid, 1), description: "Sockets of one uid under this rule at a time." },
    maxHoldSeconds: { type: "integer", minimum: 0, maximum: MAX_HOLD_SECONDS, default: 60 },
    reusePort: { type: "boolean", default: false, description: "Whether SO_REUSEPORT may be asked for." },
    share: { type: "boolean", default: true, description: "Whether a uid may have an active socket once more." },
  },
  required: ["name", "ports", "users", "groups", "protocols", "addresses", "maxSockets", "maxHoldSeconds", "reusePort", "share"],
  additionalProperties: false,
} as const;

export { principal as PRINCIPAL_SCHEMA, rule as RULE_SCHEMA };

const rules = { type: "array", items: rule, description: "Tried in order; the first that matches decides." } as const;
const $schema = { type: "string" } as const;

export const CONFIG_SCHEMA = {
  type: "object",
  properties: {
    $schema,
    socket: {
      type: "object",
      properties: {
        path: { ...path, default: DEFAULT_SOCKET },
        group: { ...principal, default: "lowport", description: "Who may connect." },
        mode: { type: "string", pattern: "^0[0-7]{3}$", default: "0660" },
      },
      required: ["path", "group", "mode"],
      additionalProperties: false,
      default: {},
    },
    user: { ...principal, default: "lowport", description: "Whom the helper becomes; never root." },
    operators: {
      type: "object",
      properties: { users: { ...principals, default: ["root"] }, groups: { ...principals, default: ["adm"] } },
      required: ["users", "groups"],
      additionalProperties: false,
      default: {},
      description: "Who may list, check and revoke for all users.",
    },
    audit: {
      type: "object",
      properties: {
        path: { ...path, default: "/var/log/lowport/audit.log" },
        durability: {
          type: "string",
          enum: ["write", "fsync"],
          default: "write",
          description: "write survives the helper's death, fsync the machine's.",
        },
        syslog: { type: "boolean", default: true, description: "Whether chain heads go to syslog (authpriv) as well." },
      },
      required: ["path", "durability", "syslog"],
      additionalProperties: false,
      default: {},
    },
    limits: {
      type: "object",
      properties: {
        connectionsPerUid: limit(LIMITS.connectionsPerUid, 1),
        socketsPerUid: limit(LIMITS.socketsPerUid, 1),
        connections: limit(LIMITS.connections, 1),
        requestsPerSecond: limit(LIMITS.requestsPerSecond, 1),
        requestBurst: limit(LIMITS.requestBurst, 1),
        requestsInFlight: limit(LIMITS.requestsInFlight, 1),
      },
      required: ["connectionsPerUid", "socketsPerUid", "connections", "requestsPerSecond", "requestBurst", "requestsInFlight"],
      additionalProperties: false,
      default: {},
    },
    rules,
  },
  required: ["socket", "user", "operators", "audit", "limits", "rules"],
  additionalProperties: false,
} as const;

/** A file of rules.d. */
export const RULES_SCHEMA = {
  type: "object",
  properties: { $schema, rules },
  required: ["rules"],
  additionalProperties: false,
} as const;

/** lowport.json with every default filled in. */
export type ConfigFile = Static<typeof CONFIG_SCHEMA>;
/** One rule as written, with every default filled in. */
export type RuleEntry = Static<typeof rule>;
/** A user or group as written. */
export type Principal = string | number;
