/** One lease, and the grant that makes it; what is done with all of them is in leases.ts. */
import { refusal } from "../shared/errors.js";
import { native } from "../shared/native.js";
import type { Account } from "./account.js";
import { describe_socket } from "./address.js";
import type { Binding } from "./binder.js";
import type { Peer } from "./policy.js";

/** What can have references: a connection. Only its identity counts. */
export type Holder = object;

/** What a lease and its grant have in common. */
interface Terms extends Binding {
  /** To whom it is granted; a lease: to whom first, or who has resumed it. */
  peer: Peer;
  readonly account: Account;
  /** The rule that allowed it, and under which it counts, whatever a reload renames. */
  readonly rule: string;
  /** The rule that allowed the IPv4 half of `::`, if it was another. */
  readonly also?: string | undefined;
  hold: number;
  label: string;
}

export interface Lease extends Terms {
  readonly id: string;
  readonly since: Date;
  readonly references: Map<Holder, number>;
  fd: number;
  timer: NodeJS.Timeout | undefined;
  /** Seconds that it is held for, or was the last time. */
  held?: number;
}

/** A bind that the policy has allowed. */
export interface Grant extends Readonly<Terms> {
  readonly holder: Holder;
  readonly share: boolean;
  /** Asked before anything is counted or bound; throws if a limit is reached. */
  readonly check_quota: () => void;
}

export interface Granted {
  readonly lease: Lease;
  /** The lease was held: this is the same socket. */
  readonly resumed: boolean;
  /** Takes it all back, if the grant could not be recorded. */
  readonly undo: () => void;
}

/** A holder may shut down or even close its copy; the helper's copy shows whether a TCP one still listens (SO_ACCEPTCONN). */
export function still_usable(lease: Lease): boolean {
  const info = native().socketInfo(lease.fd);
  return typeof info !== "number" && (lease.protocol === "udp" || info[1] === 1);
}

export function require_same_options(lease: Lease, grant: Grant): void {
  if (lease.ipv6Only !== grant.ipv6Only || lease.reusePort !== grant.reusePort)
    throw refusal(
      "EADDRINUSE",
      `${describe_socket(grant)} is there already as lease ${lease.id}, with another ipv6Only or reusePort; ask with the same, or release it first`,
    );
}
