/**
 * Who has which socket. A lease is one bound socket granted to one uid. It is active while a connection has a reference to
 * it (the connection is the lifeline), then held for `hold` seconds, then ended: the helper closes its own copy. The
 * kernel goes on queueing connections while it is held, and the same uid gets the same socket back.
 * A lease never changes its uid, and a descriptor is never used after its lease has ended (`fd` is -1 then).
 */
import { closeSync } from "node:fs";
import { refusal } from "../shared/errors.js";
import { errno_name, native } from "../shared/native.js";
import { RESTART_HOLD_SECONDS } from "../shared/protocol.js";
import { count_socket } from "./account.js";
import { describe_socket, is_wildcard } from "./address.js";
import { type Binding, bind_socket } from "./binder.js";
import { type Grant, type Granted, type Holder, type Lease, require_same_options, still_usable } from "./lease.js";
import type { LeaseStore } from "./lease-store.js";
import { Multimap } from "./multimap.js";
import { new_id } from "./new-id.js";

const tally = ({ account, rule, also }: Lease, change: number) => count_socket(account, rule, change, also);
const port_key = ({ protocol, port }: Binding) => (protocol === "tcp" ? port : -port);

export class LeaseTable {
  readonly byId = new Map<string, Lease>();
  /** At most twice 65,535 keys. */
  readonly #byPort = new Multimap<number, Lease>();
  readonly #byHolder = new Multimap<Holder, Lease>();
  readonly #on_end: (lease: Lease, reason: string) => void;
  readonly #store: Pick<LeaseStore, "keep" | "update" | "forget"> | undefined;

  /** @param on_end records the end of a lease. @param store keeps leases for the next helper */
  constructor(on_end: (lease: Lease, reason: string) => void, store?: Pick<LeaseStore, "keep" | "update" | "forget">) {
    this.#on_end = on_end;
    this.#store = store;
  }

  /** Takes a lease of the helper before, and holds it for its owner: the restart was not the owner's fault. */
  restore(lease: Lease): void {
    this.#add(lease);
    if (still_usable(lease)) this.#hold(lease, Math.max(lease.hold, RESTART_HOLD_SECONDS));
    else this.end(lease, "its listener was shut down by its holder");
  }

  #add(lease: Lease): void {
    this.byId.set(lease.id, lease);
    this.#byPort.add(port_key(lease), lease);
    tally(lease, 1);
  }

  /** What its owner changes by asking again. */
  #set_terms(lease: Lease, { hold, label, peer }: Pick<Lease, "hold" | "label" | "peer">): void {
    if (lease.hold === hold && lease.label === label && lease.peer.pid === peer.pid) return;
    Object.assign(lease, { hold, label, peer });
    this.#store?.update(lease);
  }

  /** @throws a refusal; then nothing has changed */
  grant(grant: Grant): Granted {
    const own = this.#find_own(grant);
    if (own !== undefined && own.references.size === 0) return this.#resume(own, grant);
    if (own !== undefined && grant.share) return this.#share(own, grant);
    if (own !== undefined && !(grant.reusePort && own.reusePort))
      throw refusal(
        "EADDRINUSE",
        `${describe_socket(grant)} is active already for uid ${grant.peer.uid} as lease ${own.id}; ask with "share": true for one more reference, or release it first`,
      );
    return this.#bind(grant, own?.ipv6Only !== grant.ipv6Only);
  }

  /**
   * A lease of the same user on the same address; rather a held one, which is waiting for its owner, and of several (with
   * reusePort) the one that this very process had.
   */
  #find_own(grant: Grant): Lease | undefined {
    let active: Lease | undefined;
    let held: Lease | undefined;
    for (const lease of this.#byPort.get(port_key(grant))) {
      if (lease.account !== grant.account || lease.address !== grant.address) continue;
      if (!still_usable(lease)) {
        // Its holder has shut the listener down, which every copy of the descriptor shares.
        if (lease.references.size === 0) this.end(lease, "its listener was shut down by its holder");
        continue;
      }
      if (lease.references.size > 0) active ??= lease;
      else if (held === undefined || lease.peer.pid === grant.peer.pid) held = lease;
    }
    return held ?? active;
  }

  #resume(lease: Lease, grant: Grant): Granted {
    require_same_options(lease, grant);
    const { hold, label, peer, held } = lease;
    clearTimeout(lease.timer);
    this.#refer(lease, grant.holder);
    this.#set_terms(lease, grant);
    const undo = () => {
      this.#take_back(lease, grant.holder, () => {
        this.#set_terms(lease, { hold, label, peer });
        this.#hold(lease, held);
      });
    };
    return { lease, resumed: true, undo };
  }

  #share(lease: Lease, grant: Grant): Granted {
    require_same_options(lease, grant);
    grant.check_quota();
    this.#refer(lease, grant.holder);
    tally(lease, 1);
    const { hold, label, peer } = lease;
    this.#set_terms(lease, { hold: Math.max(hold, grant.hold), label, peer });
    const undo = () => {
      this.#set_terms(lease, { hold, label, peer });
      this.#take_back(lease, grant.holder, () => this.#lose_owner(lease));
    };
    return { lease, resumed: false, undo };
  }

  #bind(grant: Grant, first: boolean): Granted {
    grant.check_quota();
    if (grant.reusePort) this.#refuse_overlap(grant);
    const id = new_id();
    const fd = bind_socket(grant, first);
    const { protocol, address, port, ipv6Only, backlog, reusePort, peer, account, rule, also, hold, label, holder } = grant;
    // biome-ignore format: one literal, because Object.assign() is slow
    const lease: Lease = {
      protocol, address, port, ipv6Only, backlog, reusePort, peer, account, rule, also, hold, label,
      id, fd, since: new Date(), references: new Map(), timer: undefined,
    };
    this.#add(lease);
    this.#refer(lease, holder);
    this.#store?.keep(lease);
    const undo = () => this.#take_back(lease, holder, () => this.#remove(lease));
    return { lease, resumed: false, undo };
  }

  /**
   * Takes one reference back whose grant could not be recorded; `last` does what is left to do if it was the only one.
   * Others may have come meanwhile, and been recorded: theirs stay.
   */
  #take_back(lease: Lease, holder: Holder, last: () => void): void {
    if (lease.fd < 0) return;
    const had = this.#unrefer(lease, holder, 1);
    if (lease.references.size === 0) last();
    else if (had > 0) tally(lease, -1);
  }

  /** With SO_REUSEPORT the kernel would let another user's socket of the helper's join: see bind_socket. */
  #refuse_overlap(grant: Grant): void {
    for (const other of this.#byPort.get(port_key(grant)))
      if (
        other.account !== grant.account &&
        (other.address === grant.address || is_wildcard(other.address) || is_wildcard(grant.address))
      )
        throw refusal(
          "EADDRINUSE",
          `${describe_socket(grant)} is taken by another user's lease; take another port, or ask an operator to revoke it`,
        );
  }

  #refer(lease: Lease, holder: Holder): void {
    lease.references.set(holder, (lease.references.get(holder) ?? 0) + 1);
    this.#byHolder.add(holder, lease);
  }

  /** Takes up to `count` references of a holder away. @returns how many it had of them */
  #unrefer(lease: Lease, holder: Holder, count: number): number {
    const had = lease.references.get(holder) ?? 0;
    const taken = Math.min(count, had);
    if (had > taken) lease.references.set(holder, had - taken);
    else {
      lease.references.delete(holder);
      this.#byHolder.remove(holder, lease);
    }
    return taken;
  }

  #hold(lease: Lease, seconds = lease.hold): void {
    clearTimeout(lease.timer);
    lease.held = seconds;
    lease.timer = setTimeout(() => this.end(lease, `its owner did not come back within ${seconds} s`), seconds * 1000);
  }

  /** A connection is gone: what nobody else refers to is held, or ended. */
  leave(holder: Holder): void {
    for (const lease of [...this.#byHolder.get(holder)]) {
      const left = this.#unrefer(lease, holder, Number.POSITIVE_INFINITY);
      const last = lease.references.size === 0;
      tally(lease, (last ? 1 : 0) - left); // a held one counts once
      if (last) this.#lose_owner(lease);
    }
    this.#byHolder.forget(holder);
  }

  #lose_owner(lease: Lease): void {
    if (lease.hold > 0) this.#hold(lease);
    else this.end(lease, "its owner's connection closed");
  }

  /** Gives up one reference of the holder's, or, where it has none, the whole lease. */
  release(lease: Lease, holder: Holder): void {
    if (this.#unrefer(lease, holder, 1) === 0 || lease.references.size === 0) this.end(lease, "released");
    else tally(lease, -1);
  }

  /** Takes the socket itself back from all who have a copy. @throws a refusal if that cannot be; then nothing has changed */
  revoke(lease: Lease, reason: string): void {
    const result = native().revokeSocket(lease.fd);
    if (result < 0)
      throw refusal(
        "EACCES",
        `lease ${lease.id} cannot be revoked: its holder has bound it to a device and locked a filter of its own (${errno_name(result)}); stop the program that has it (\`ss -lnp\`)`,
      );
    this.end(lease, reason);
  }

  end(lease: Lease, reason: string): void {
    if (lease.fd < 0) return;
    this.#remove(lease);
    this.#on_end(lease, reason);
  }

  #remove(lease: Lease): void {
    if (lease.fd < 0) return;
    let counted = 0;
    for (const [holder, count] of [...lease.references]) {
      counted += count;
      this.#unrefer(lease, holder, count);
    }
    tally(lease, -Math.max(1, counted));
    clearTimeout(lease.timer);
    this.byId.delete(lease.id);
    this.#byPort.remove(port_key(lease), lease);
    closeSync(lease.fd);
    lease.fd = -1;
    this.#store?.forget(lease);
  }
}
