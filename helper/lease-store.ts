/**
 * Leases over the death of the helper, however it dies: systemd keeps the sockets (FDSTORE of sd_notify(3)), each under the
 * name of its lease, and a file of that name in the helper's runtime folder says what else must be known. Both are dropped
 * when the service is stopped. What does not fit together is closed and not handed to anybody.
 */
import { closeSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { message_of } from "../shared/errors.js";
import { errno_name, native } from "../shared/native.js";
import { canonical_address } from "./address.js";
import type { Binding } from "./binder.js";
import type { Lease } from "./lease.js";
import type { Log } from "./log.js";
import type { Systemd } from "./systemd.js";

/** A lease of the helper before. */
export interface Kept extends Binding {
  readonly id: string;
  readonly fd: number;
  /** The process that had it last; it may have ended. */
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  readonly rule: string;
  readonly also?: string;
  readonly hold: number;
  readonly label: string;
  /** ISO 8601. */
  readonly since: string;
}

export class LeaseStore {
  readonly #systemd: Systemd;
  readonly #folder: string | undefined;
  readonly #log: Log;
  /** Whether sockets were given up that systemd may have still. */
  #giving_up = false;
  #settled: Promise<void> | undefined;

  /** @param folder that only the helper can enter; undefined: nothing is kept */
  constructor(systemd: Systemd, log: Log, folder: string | undefined) {
    this.#systemd = systemd;
    this.#folder = systemd.present ? folder : undefined;
    this.#log = log;
  }

  /** Whether leases outlive this process. */
  get keeps(): boolean {
    return this.#folder !== undefined;
  }

  /** Keeps the socket of a new lease. */
  keep(lease: Lease): void {
    if (this.update(lease)) this.#systemd.notify(`FDSTORE=1\nFDNAME=${lease.id}\nFDPOLL=0`, () => lease.fd);
  }

  /** Writes down what is to be known of a lease. @returns whether it was */
  update(lease: Lease): boolean {
    if (this.#folder === undefined) return false;
    const { id, protocol, address, port, ipv6Only, reusePort, backlog, peer, rule, also, hold, label, since } = lease;
    const { pid, uid, gid } = peer;
    const known = { protocol, address, port, ipv6Only, reusePort, backlog, pid, uid, gid, rule, also, hold, label, since };
    const file = join(this.#folder, id);
    try {
      writeFileSync(`${file}.new`, JSON.stringify(known));
      renameSync(`${file}.new`, file);
      return true;
    } catch (error) {
      this.#log.warn({ lease: id, reason: message_of(error) }, "this lease will not outlive the helper as it is now");
      return false;
    }
  }

  forget({ id }: Lease): void {
    if (this.#folder === undefined) return;
    this.#systemd.notify(`FDSTOREREMOVE=1\nFDNAME=${id}`);
    rmSync(join(this.#folder, id), { force: true });
    this.#giving_up = true;
  }

  /** Resolves when systemd has closed the sockets of leases that have ended; undefined if it has. */
  settled(): Promise<void> | undefined {
    if (this.#giving_up && this.#folder !== undefined) {
      this.#giving_up = false;
      const unknown = (error: Error) => this.#log.error({ reason: error.message }, "systemd cannot be waited for");
      const settled = this.#systemd
        .barrier(this.#folder)
        .catch(unknown)
        .finally(() => {
          if (this.#settled === settled) this.#settled = undefined;
        });
      this.#settled = settled;
    }
    return this.#settled;
  }

  /**
   * The leases of the helper before.
   * @param passed all that systemd passed, by name
   * @param on_lost is told of leases that do not come back, and why
   */
  take_back(passed: ReadonlyMap<string, number>, on_lost: (id: string, reason: string) => void): Kept[] {
    const folder = this.#folder;
    if (folder === undefined) return [];
    const kept: Kept[] = [];
    for (const [id, fd] of passed) {
      if (id === "control") continue;
      try {
        kept.push(read_kept(folder, id, fd));
      } catch (error) {
        on_lost(id, `closed, for its lease is not known: ${message_of(error)}`);
        this.#systemd.notify(`FDSTOREREMOVE=1\nFDNAME=${id}`);
        closeSync(fd);
      }
    }
    const known = new Set(kept.map(({ id }) => id));
    for (const name of readdirSync(folder)) {
      if (known.has(name) || !ID.test(name.replace(/\.new$/, ""))) continue;
      if (ID.test(name) && !passed.has(name)) on_lost(name, "systemd has no socket of it");
      rmSync(join(folder, name), { recursive: true, force: true });
    }
    return kept;
  }
}

/** A lease's name. */
const ID = /^[0-9a-f]{16}$/;

function read_kept(folder: string, id: string, fd: number): Kept {
  if (!ID.test(id)) throw new Error("that is no lease's name");
  const kept = { ...(JSON.parse(readFileSync(join(folder, id), "utf8")) as Kept), id, fd };
  const { protocol, port, address, ipv6Only } = kept;
  const info = native().socketInfo(fd);
  if (typeof info === "number") throw new Error(`it is no socket of a port (${errno_name(info)})`);
  const [stream, , its_port, its_address, v6only] = info;
  // The kernel says of every IPv6 address but :: that it is IPv6 alone.
  const is = [stream === 1 ? "tcp" : "udp", its_port, canonical_address(its_address), address === "::" && v6only === 1];
  const should_be = [protocol, port, address, address === "::" && ipv6Only];
  if (is.join(" ") !== should_be.join(" ")) throw new Error(`the socket is ${is.join(" ")} and not ${should_be.join(" ")}`);
  return kept;
}
