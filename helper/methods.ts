/** What each method of shared/methods.ts does. The table there says who may call it; this is the only way to do it. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { LowportError, refusal } from "../shared/errors.js";
import type { LeaseEntry } from "../shared/methods.js";
import { BIND_DEFAULTS, INVALID_PARAMS, PROTOCOL_VERSION, VERSION } from "../shared/protocol.js";
import { canonical_address, describe_socket, family_of } from "./address.js";
import type { Call, Caller, Handlers } from "./calls.js";
import type { Config } from "./config.js";
import type { Lease } from "./lease.js";
import type { LeaseTable } from "./leases.js";
import { decide, explain, type Peer, type Policy, type Rule, type Wanted } from "./policy.js";
import { find_group, find_user } from "./posix.js";

/** The OpenRPC document; read as root, because the helper's user need not be able to enter this folder. */
const INTERFACE = readFileSync(join(import.meta.dirname, "../shared/generated/openrpc.json"), "utf8");

/** What the methods work on. */
export interface World {
  config: Config;
  readonly leases: LeaseTable;
  policyLoadedAt: Date;
  readonly connections: () => number;
  readonly audit_seq: () => number;
  /** Writes the call's record now, for what cannot be undone afterwards. Throws EIO if that fails. */
  readonly record_now: (call: Call) => void;
}

export function is_operator(config: Config, { uid, gid, groups, unmapped }: Peer): boolean {
  if (unmapped === true) return false;
  const { uids, gids } = config.operators;
  return uids.has(uid) || gids.has(gid) || groups.some((group) => gids.has(group));
}

function read_wanted(params: { protocol: "tcp" | "udp"; port: number; address?: string; ipv6Only?: boolean }): Wanted {
  const text = params.address ?? BIND_DEFAULTS.address;
  const address = canonical_address(text);
  if (address === undefined)
    throw new LowportError(INVALID_PARAMS, {
      reason: `params: /address "${text}" is no IP literal; resolve names before you ask`,
      path: "/address",
    });
  return {
    protocol: params.protocol,
    port: params.port,
    address,
    ipv6Only: family_of(address) === 6 && params.ipv6Only === true,
  };
}

function require_quota(config: Config, { account }: Caller, rule: Rule): void {
  const over = (limit: string, max: number, who: string) => {
    const reason = `uid ${account.uid} has ${max} sockets, all that ${who} allows; release one, or ask an admin to raise ${limit}`;
    return refusal("EDQUOT", reason, { limit, max });
  };
  const { socketsPerUid } = config.limits;
  if (account.sockets >= socketsPerUid) throw over("socketsPerUid", socketsPerUid, "the helper");
  if ((account.byRule.get(rule.name) ?? 0) >= rule.maxSockets) throw over("maxSockets", rule.maxSockets, `rule "${rule.name}"`);
}

const OPTIONS = ["reusePort", "share"] as const;

/** What a rule limits besides the socket itself. */
function require_allowed_options(rule: Rule, wanted: Wanted, asked: { hold: number; reusePort: boolean; share: boolean }): void {
  const what = () => `${describe_socket(wanted)}: rule "${rule.name}"`;
  for (const option of OPTIONS)
    if (asked[option] && !rule[option])
      throw refusal(
        "EACCES",
        `${what()} does not allow ${option}; ask without it, or an admin sets "${option}": true in that rule`,
      );
  const max = rule.maxHoldSeconds;
  if (asked.hold > max) {
    const reason = `${what()} allows a hold of ${max} s, not ${asked.hold}; ask for less, or an admin raises maxHoldSeconds`;
    throw refusal("EDQUOT", reason, { limit: "maxHoldSeconds", max });
  }
}

function entry_of(lease: Lease): LeaseEntry {
  const { id, peer, protocol, address, port, references, label, hold, since } = lease;
  const state = references.size > 0 ? "active" : "held";
  return { lease: id, uid: peer.uid, protocol, address, port, state, label, hold, since: since.toISOString() };
}

/** The id that no group has (chown(2)). */
const NO_GROUP = 4_294_967_295;

/** Another user as a peer, as far as the rules can tell users apart; for an operator's `check`. */
function impersonate(uid: number, policy: Policy): Peer {
  const user = find_user(uid);
  if (user === undefined || user.name === String(uid)) return { pid: 0, uid, gid: NO_GROUP, groups: [] };
  const groups = [...policy.byGid.keys()].filter((gid) => find_group(gid)?.members.includes(user.name));
  return { pid: 0, uid, gid: user.gid, groups };
}

export function make_handlers(world: World): Handlers {
  const { leases } = world;
  /** One for all: what peers do not read is kept. */
  let document: object | undefined;

  function require_operator(call: Call, what: string): void {
    if (!is_operator(world.config, call.caller.peer))
      throw refusal(
        "EACCES",
        `${what} is for operators, and uid ${call.caller.peer.uid} is none; an admin adds it to "operators" in lowport.json`,
      );
  }

  /** The lease, if the caller may touch it; to others it does not exist. */
  function find_lease(id: string, { account, peer }: Caller): Lease {
    const lease = leases.byId.get(id);
    if (lease !== undefined && (lease.account === account || is_operator(world.config, peer))) return lease;
    throw refusal("ENOENT", `there is no lease ${id} of uid ${peer.uid}; \`list\` shows those there are`);
  }

  return {
    bind(params, call) {
      const { caller, record } = call;
      const wanted = read_wanted(params);
      const { peer, account } = caller;
      const { rule, also } = decide(world.config.policy, peer, wanted);
      if (rule === undefined || also === undefined) throw refusal("EACCES", explain(world.config.policy, peer, wanted));
      record.rule = rule.name;
      const { backlog = BIND_DEFAULTS.backlog, reusePort = false, share = false, hold = 0, label = "" } = params;
      const asked = { reusePort, share, hold };
      require_allowed_options(rule, wanted, asked);
      if (also !== rule) require_allowed_options(also, wanted, asked);
      const check_quota = () => {
        require_quota(world.config, caller, rule);
        if (also !== rule) require_quota(world.config, caller, also);
      };
      const { protocol, address, port, ipv6Only } = wanted;
      // biome-ignore format: one literal, because `{ ...wanted, ... }` is slow
      const { lease, resumed, undo } = leases.grant({
        protocol, address, port, ipv6Only, backlog, reusePort, share, hold, label,
        peer, account, rule: rule.name, also: also.name, holder: caller, check_quota,
      });
      call.lease = lease;
      call.undo = undo;
      record.lease = lease.id;
      return { lease: lease.id, protocol: lease.protocol, address: lease.address, port: lease.port, resumed, fds: 1 };
    },

    release({ lease: id }, call) {
      const lease = find_lease(id, call.caller);
      call.record.lease = id;
      world.record_now(call);
      leases.release(lease, call.caller);
      return { released: true };
    },

    list(_params, { caller }) {
      const all = is_operator(world.config, caller.peer);
      return { leases: [...leases.byId.values()].filter((lease) => all || lease.account === caller.account).map(entry_of) };
    },

    check(params, call) {
      const { peer } = call.caller;
      const { uid = peer.uid } = params;
      if (uid !== peer.uid) require_operator(call, "check for another uid");
      const { policy } = world.config;
      const who = uid === peer.uid ? peer : impersonate(uid, policy);
      const wanted = read_wanted(params);
      const { rule } = decide(policy, who, wanted);
      return { allowed: rule !== undefined, rule: rule?.name ?? null, reason: explain(policy, who, wanted) };
    },

    revoke({ lease: id }, call) {
      require_operator(call, "revoke");
      const lease = find_lease(id, call.caller);
      call.record.lease = id;
      world.record_now(call);
      leases.revoke(lease, `revoked by uid ${call.caller.peer.uid}`);
      return { revoked: true };
    },

    status(_params, { caller: { peer } }) {
      return {
        version: VERSION,
        protocolVersion: PROTOCOL_VERSION,
        pid: process.pid,
        uptimeSeconds: Math.floor(process.uptime()),
        connections: world.connections(),
        leases: leases.byId.size,
        policyLoadedAt: world.policyLoadedAt.toISOString(),
        auditSeq: world.audit_seq(),
        you: { uid: peer.uid, gid: peer.gid, groups: [...peer.groups], operator: is_operator(world.config, peer) },
      };
    },

    "rpc.discover": () => (document ??= JSON.parse(INTERFACE) as object),
  };
}
