/**
 * The leases of one program, which live as long as it does: the supervisor's connection to the helper is their lifeline. A
 * socket that no process of the program has any more is given back, as the kernel would have closed it: at the latest when the
 * same port is asked for again or a quota is used up, else by looks, because nothing tells that the last copy of a descriptor
 * was closed while the helper has one. With a hold that long a pause is no end: asked for again it is the same socket.
 * Looking wrong does no harm: giving a lease back closes the helper's copy, never the program's.
 */
import { uptime_ms as clock } from "../../shared/clock.js";
import type { LeaseEntry, Params } from "../../shared/methods.js";
import { Client } from "../client.js";
import { LowportError } from "../errors.js";
import { sleep } from "../time-limit.js";
import type { BoundSocket } from "../types.js";
import { any_in_flight, find_holders, has_socket, type Place } from "./processes.js";
import { taken } from "./taken.js";

/** What is asked for. */
export type Wanted = Pick<Required<Params<"bind">>, "protocol" | "address" | "port" | "ipv6Only" | "reusePort" | "label">;

interface Tracked {
  readonly socket: BoundSocket;
  readonly wanted: Wanted;
  /** What was asked of the helper in the end. */
  readonly granted: Params<"bind">;
  readonly inode: number;
  /** Where it was seen last. */
  place: Place;
  /** When it was first found that nobody has it. */
  closed: number | undefined;
}

/**
 * Milliseconds between two looks at whether somebody still has the sockets: what nobody has is looked for `again`, because it
 * may have gone from one process to another meanwhile, and then given back. So long a listener that was closed takes
 * connections; with a hold it is meant to. A look takes some 60 us, and with the timer 0.2 % of a CPU.
 */
const LOOK_MS = { usually: 100, again: 20, with_hold: 2_000, deciding: 1_000 };
/** Milliseconds for which what nobody has may be on its way from one process to another, while anything is. */
const IN_FLIGHT_MS = 5_000;
/**
 * A part of a CPU, for looks that take longer: a process that cannot be looked into may have a socket, and all are searched. For the
 * seconds in which it is decided whether a socket is closed it may be more.
 */
const MOST = 0.01;
/** Milliseconds for which an address may be taken by a program of this user that has ended: its supervisor is about to. */
const ENDING_MS = 1_000;
const ENDING_RETRY_MS = 20;
/** The helper went away between two requests; the next attempt connects anew. */
const BROKEN = new Set(["ECONNRESET", "ESHUTDOWN", "EPIPE"]);

/** A name as a label may be (shared/PROTOCOL.md). */
export const label_of = (name: string): string => name.replaceAll(/[^A-Za-z0-9._-]/g, "_").slice(0, 64);

const code_of = (error: unknown) => (error instanceof LowportError ? error.code : "");

export class ProgramLeases {
  readonly #client: Client;
  readonly #hold: number;
  readonly #tracked = new Set<Tracked>();
  readonly #granted = new WeakMap<BoundSocket, Params<"bind">>();
  readonly #on_look: () => void;
  #timer: NodeJS.Timeout | undefined;

  /** @param hold seconds. @param on_look called after each look at who has what */
  constructor(path: string | undefined, hold: number, on_look: () => void = () => undefined) {
    this.#client = new Client(path);
    this.#client.on("lost", (socket) => this.#forget(socket));
    this.#hold = hold;
    this.#on_look = on_look;
  }

  #forget(socket: BoundSocket): void {
    for (const tracked of this.#tracked) if (tracked.socket === socket) this.#tracked.delete(tracked);
  }

  /** Those that no process has; of all, if nothing is said. */
  #unused(of: Iterable<Tracked> = this.#tracked): Tracked[] {
    const moved = [...of].filter(({ place, inode }) => !has_socket(place, inode));
    if (moved.length === 0) return [];
    const places = find_holders(new Map(moved.map(({ inode, place }) => [inode, place])));
    for (const tracked of moved) tracked.place = places.get(tracked.inode) ?? tracked.place;
    return moved.filter(({ inode }) => !places.has(inode));
  }

  /** Whether any process has one of the sockets. */
  any_held(): boolean {
    return this.#unused().length < this.#tracked.size;
  }

  #give_back(tracked: Tracked): void {
    this.#tracked.delete(tracked);
    void tracked.socket.release();
  }

  /** Asks for a socket. @param patience milliseconds for a helper that does not answer, or not yet. @throws LowportError */
  async obtain(wanted: Wanted, patience: number): Promise<BoundSocket> {
    const deadline = clock() + patience;
    const before = this.#make_room(wanted);
    if (before !== undefined) {
      try {
        return await this.#ask({ ...before.granted, share: true }, deadline);
      } catch (error) {
        if (code_of(error) !== "EACCES") throw error; // the rule does not let it be shared: then it begins anew
      } finally {
        this.#give_back(before);
      }
    }
    const plain = { ...wanted, reusePort: false };
    // A rule that forbids SO_REUSEPORT may allow that the sockets are one and the same, which accepts as well.
    const ways: Params<"bind">[] = wanted.reusePort ? [wanted, { ...plain, share: true }, plain] : [plain];
    let refused: unknown;
    for (const way of ways) {
      try {
        return await this.#ask({ ...way, hold: this.#hold }, deadline);
      } catch (error) {
        if (code_of(error) !== "EACCES") throw error;
        refused ??= error;
      }
    }
    throw refused;
  }

  /** Gives back what stands in the way and is not used any more. @returns what is in a pause and is the very same */
  #make_room({ protocol, port, address, ipv6Only, reusePort }: Wanted): Tracked | undefined {
    const there = [...this.#tracked].filter(({ wanted }) => wanted.protocol === protocol && wanted.port === port);
    for (const tracked of this.#unused(there)) {
      const { wanted } = tracked;
      const same = wanted.address === address && wanted.ipv6Only === ipv6Only && wanted.reusePort === reusePort;
      if (this.#hold > 0 && same) return tracked;
      this.#give_back(tracked);
    }
    return undefined;
  }

  /** Gives all back that is not used any more, also what is in a pause. @returns whether there was anything */
  #free_quota(): boolean {
    const unused = this.#unused();
    for (const tracked of unused) this.#give_back(tracked);
    return unused.length > 0;
  }

  async #ask(params: Params<"bind">, deadline: number): Promise<BoundSocket> {
    const start = clock();
    const left = () => Math.max(1, deadline - clock());
    let last = false;
    let other: LeaseEntry | undefined;
    for (let broken = false; ; ) {
      try {
        const socket = await this.#client.bind({ ...params, timeout: left() });
        this.#granted.set(socket, params);
        return socket;
      } catch (error) {
        const code = code_of(error);
        const passed = clock() - start;
        const wait = code === "EAGAIN" ? ((error as LowportError).retryAfterMs ?? 100) : ENDING_RETRY_MS;
        if (code === "EAGAIN" && wait > left()) throw error;
        if (code === "EDQUOT" && (error as LowportError).limit !== "maxHoldSeconds" && this.#free_quota()) continue;
        const own = code === "EADDRINUSE" ? this.#own_on(params) : undefined;
        if (own !== undefined) throw own.address === params.address ? taken("itself") : error;
        if (code === "EADDRINUSE" && (last || passed > ENDING_MS)) throw taken(other ?? (error as LowportError));
        // A lease that is gone now may have ended since the refusal; else it is somebody else's.
        if (code === "EADDRINUSE") {
          const found = await this.#find_of_user(params, left());
          last = found === undefined;
          if (found !== "unknown") other = found;
        }
        if (BROKEN.has(code) && broken) throw error;
        if (!["EAGAIN", "EADDRINUSE"].includes(code) && !BROKEN.has(code)) throw error;
        broken ||= BROKEN.has(code);
        await sleep(wait);
      }
    }
  }

  /** What the program itself has of the port. */
  #own_on({ protocol, port }: Params<"bind">): Wanted | undefined {
    return [...this.#tracked].map(({ wanted }) => wanted).find((own) => own.protocol === protocol && own.port === port);
  }

  /** Who of this user has the port: another program, whose supervisor may be about to end. */
  async #find_of_user({ protocol, port }: Params<"bind">, timeout: number): Promise<LeaseEntry | "unknown" | undefined> {
    try {
      const leases = await this.#client.list({ timeout });
      return leases.find((lease) => lease.uid === process.getuid?.() && lease.protocol === protocol && lease.port === port);
    } catch (error) {
      if (code_of(error) !== "EAGAIN" && !BROKEN.has(code_of(error))) throw error;
      await sleep(Math.min((error as LowportError).retryAfterMs ?? 0, timeout));
      return "unknown";
    }
  }

  /** The program has the socket from now on. */
  keep(socket: BoundSocket, wanted: Wanted, inode: number, place: Place): void {
    const granted = this.#granted.get(socket) ?? wanted;
    this.#tracked.add({ socket, wanted, granted, inode, place, closed: undefined });
    if (this.#timer === undefined) this.#plan_look();
  }

  /** @param news the last look found some closed. @param took microseconds of CPU that it took */
  #plan_look(news = false, took = 0): void {
    const usual = this.#hold > 0 ? LOOK_MS.with_hold : LOOK_MS.usually;
    const deciding = [...this.#tracked].some(({ closed }) => closed !== undefined);
    const affordable = Math.min(took / 1000 / MOST, deciding ? LOOK_MS.deciding : Number.POSITIVE_INFINITY);
    const wait = news && this.#hold === 0 ? LOOK_MS.again : Math.max(usual, affordable);
    this.#timer = setTimeout(() => this.#look(), wait).unref();
  }

  #look(): void {
    this.#timer = undefined;
    const now = clock();
    const before = process.cpuUsage();
    const unused = new Set(this.#unused());
    const wait = Math.max(this.#hold * 1000, unused.size > 0 && any_in_flight() ? IN_FLIGHT_MS : 0);
    const { user, system } = process.cpuUsage(before);
    let news = false;
    for (const tracked of [...this.#tracked]) {
      if (!unused.has(tracked)) tracked.closed = undefined;
      else if (tracked.closed !== undefined && now - tracked.closed >= wait) this.#give_back(tracked);
      else {
        news ||= tracked.closed === undefined;
        tracked.closed ??= now;
      }
    }
    if (this.#tracked.size > 0) this.#plan_look(news, user + system);
    this.#on_look();
  }

  /** The program has ended: what it had is held for its next start, or ends. */
  close(): void {
    clearTimeout(this.#timer);
    this.#client.close();
  }
}
