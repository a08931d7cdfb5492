/**
 * Who may have what. Default deny; rules are tried in order and the first that matches wins. `decide` is a pure function:
 * no system call, no clock, no state, so that what the tests say of it holds everywhere.
 */
import type { BlockList } from "node:net";
import { describe_socket, family_of, is_wildcard } from "./address.js";

/** The connected process as the kernel named it at connect(). */
export interface Peer {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups. */
  readonly groups: readonly number[];
  /** True if the kernel has no id here for this user and says the overflow id (65534) instead. Such a peer is nobody. */
  readonly unmapped?: boolean;
}

/** A socket that is asked for; `address` is canonical. */
export interface Wanted {
  readonly protocol: "tcp" | "udp";
  readonly address: string;
  readonly port: number;
  readonly ipv6Only: boolean;
}

/** A rule, its names resolved. Members that a rule file has too mean the same. */
export interface Rule {
  readonly name: string;
  readonly uids: ReadonlySet<number>;
  readonly gids: ReadonlySet<number>;
  readonly protocols: ReadonlySet<string>;
  readonly addresses: Addresses;
  /** [first, last], both included. */
  readonly ports: readonly (readonly [number, number])[];
  readonly maxSockets: number;
  readonly maxHoldSeconds: number;
  readonly reusePort: boolean;
  readonly share: boolean;
}

export interface Addresses {
  readonly any: boolean;
  /** Canonical literals, and a family's wildcard where the whole family (/0) is allowed. */
  readonly literals: ReadonlySet<string>;
  /** One list a family: a BlockList finds IPv4 addresses in IPv6 networks too (::/0 has ::ffff:0:0/96 in it). */
  readonly networks: { readonly [family in 4 | 6]?: BlockList };
}

export interface Policy {
  readonly rules: readonly Rule[];
  /** Positions in `rules` by who is named there, so that the rules of others cost nothing. */
  readonly byUid: ReadonlyMap<number, readonly number[]>;
  readonly byGid: ReadonlyMap<number, readonly number[]>;
}

export interface Decision {
  /** The rule that allows it; undefined if none does. */
  readonly rule: Rule | undefined;
  /** The rule that allows the IPv4 half of `::`, often the same one; its limits hold as well. */
  readonly also: Rule | undefined;
}

export function make_policy(rules: readonly Rule[]): Policy {
  const byUid = new Map<number, number[]>();
  const byGid = new Map<number, number[]>();
  const add = (index: Map<number, number[]>, id: number, position: number) => {
    const positions = index.get(id);
    if (positions === undefined) index.set(id, [position]);
    else positions.push(position);
  };
  for (const [position, rule] of rules.entries()) {
    for (const uid of rule.uids) add(byUid, uid, position);
    for (const gid of rule.gids) add(byGid, gid, position);
  }
  return { rules, byUid, byGid };
}

/** Positions of the rules that name this peer, in order. */
function rules_naming(policy: Policy, peer: Peer): readonly number[] {
  if (peer.unmapped === true) return [];
  const found = [policy.byUid.get(peer.uid) ?? []];
  for (const list of [policy.byGid.get(peer.gid), ...peer.groups.map((gid) => policy.byGid.get(gid))])
    if (list !== undefined) found.push(list);
  return found.length === 1 ? (found[0] ?? []) : [...new Set(found.flat())].toSorted((a, b) => a - b);
}

const covers_protocol = (rule: Rule, wanted: Wanted) => rule.protocols.has(wanted.protocol);
const covers_port = (rule: Rule, { port }: Wanted) => rule.ports.some(([first, last]) => port >= first && port <= last);

function covers_address({ addresses }: Rule, address: string): boolean {
  if (addresses.any || addresses.literals.has(address)) return true;
  const family = family_of(address);
  return !is_wildcard(address) && addresses.networks[family]?.check(address, `ipv${family}`) === true;
}

/** What the rule lacks to allow it, besides who. */
function lacking(rule: Rule, wanted: Wanted, address: string): string[] {
  const lacks: string[] = [];
  if (!covers_protocol(rule, wanted)) lacks.push(`${wanted.protocol} in its protocols`);
  if (!covers_port(rule, wanted)) lacks.push(`${wanted.port} in its ports`);
  if (!covers_address(rule, address)) lacks.push(`${address} in its addresses`);
  return lacks;
}

function first_match(policy: Policy, positions: readonly number[], wanted: Wanted, address: string): Rule | undefined {
  for (const position of positions) {
    const rule = policy.rules[position] as Rule;
    if (covers_port(rule, wanted) && covers_protocol(rule, wanted) && covers_address(rule, address)) return rule;
  }
  return undefined;
}

/** Rules that are looked at to explain a refusal, so that refusing many does not keep others waiting. */
const EXPLAIN_AMONG = 1000;

/** The rule that comes nearest, and all that it lacks. Rules that name the peer come first where others are as near. */
function nearest(policy: Policy, peer: Peer, wanted: Wanted, address: string): string {
  const named = rules_naming(policy, peer);
  const mine = new Set(named.slice(0, EXPLAIN_AMONG).map((position) => policy.rules[position] as Rule));
  let best: { rule: Rule; lacks: string[] } | undefined;
  for (const rule of [...mine, ...policy.rules.slice(0, EXPLAIN_AMONG)]) {
    if (best?.lacks.length === 1) break;
    const lacks = [...(mine.has(rule) ? [] : ["this user in its users or groups"]), ...lacking(rule, wanted, address)];
    if (best === undefined || lacks.length < best.lacks.length) best = { rule, lacks };
  }
  if (best === undefined) return "there are no rules; an admin adds one and reloads";
  return `the nearest rule, "${best.rule.name}", lacks ${best.lacks.join(" and ")}; an admin adds what is meant and reloads`;
}

/** Groups that a message names. */
const GROUPS_NAMED = 16;

function describe_peer({ uid, gid, groups }: Peer): string {
  const all = [...new Set([gid, ...groups])];
  const more = all.length > GROUPS_NAMED ? ` and ${all.length - GROUPS_NAMED} more` : "";
  return `uid ${uid} (groups ${all.slice(0, GROUPS_NAMED).join(", ")}${more})`;
}

/** `::` without ipv6Only takes IPv4 connections too, and so needs 0.0.0.0 as well. */
const takes_ipv4 = ({ address, ipv6Only }: Wanted) => address === "::" && !ipv6Only;

/** May this peer have this socket? */
export function decide(policy: Policy, peer: Peer, wanted: Wanted): Decision {
  const named = rules_naming(policy, peer);
  const rule = first_match(policy, named, wanted, wanted.address);
  const also = takes_ipv4(wanted) ? first_match(policy, named, wanted, "0.0.0.0") : rule;
  return rule === undefined || also === undefined ? { rule: undefined, also: undefined } : { rule, also };
}

/** Why it was decided so: what allows it, or what the nearest rule lacks and what to do. */
export function explain(policy: Policy, peer: Peer, wanted: Wanted): string {
  const what = describe_socket(wanted);
  const { rule } = decide(policy, peer, wanted);
  if (rule !== undefined) return `rule "${rule.name}" allows ${what} to ${describe_peer(peer)}`;
  if (peer.unmapped === true)
    return `${what} is not allowed to a peer whose user the kernel does not know in the helper's user namespace; run it as a user that is mapped there`;
  const half = takes_ipv4(wanted) && first_match(policy, rules_naming(policy, peer), wanted, wanted.address) !== undefined;
  const [missing, too] = half ? ["0.0.0.0", ", which it takes too unless ipv6Only is true,"] : [wanted.address, ""];
  return `${what} is not allowed to ${describe_peer(peer)}: for ${missing}${too} ${nearest(policy, peer, wanted, missing)}`;
}
