/**
 * The leases of one program, which live as long as it does: the supervisor's connection to the helper is their lifeline. A
 * socket that no process of the program has any more is given back, as the kernel would have closed it: at the latest when the
 * same port is asked for again, else by a look every few seconds, because nothing tells that the last copy of a descriptor was
 * closed while the helper has one. With a hold that long a pause is no end: asked for again it is the same socket.
 * Looking wrong does no harm: giving a lease back closes the helper's copy, never the program's.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Params } from "../../shared/methods.js";
import { Client } from "../client.js";
import { LowportError } from "../errors.js";
import type { BoundSocket } from "../types.js";
import { find_holder, has_socket, type Place } from "./processes.js";

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

/** Milliseconds between two looks at whether somebody still has the sockets. */
const LOOK_MS = 2_000;
/** Milliseconds for which a refusal that will pass is waited out. */
const PATIENCE_MS = 10_000;
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

  #is_held(tracked: Tracked): boolean {
    if (has_socket(tracked.place, tracked.inode)) return true;
    const place = find_holder(tracked.inode);
    if (place !== undefined) tracked.place = place;
    return place !== undefined;
  }

  /** Whether any process has one of the sockets. */
  any_held(): boolean {
    return [...this.#tracked].some((tracked) => this.#is_held(tracked));
  }

  #give_back(tracked: Tracked): void {
    this.#tracked.delete(tracked);
    void tracked.socket.release();
  }

  /** Asks for a socket. @throws LowportError */
  async obtain(wanted: Wanted): Promise<BoundSocket> {
    const before = this.#make_room(wanted);
    if (before !== undefined) {
      try {
        return await this.#ask({ ...before.granted, share: true });
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
        return await this.#ask({ ...way, hold: this.#hold });
      } catch (error) {
        if (code_of(error) !== "EACCES") throw error;
        refused ??= error;
      }
    }
    throw refused;
  }

  /** Gives back what stands in the way and is not used any more. @returns what is in a pause and is the very same */
  #make_room({ protocol, port, address, ipv6Only, reusePort }: Wanted): Tracked | undefined {
    for (const tracked of [...this.#tracked]) {
      const { wanted } = tracked;
      if (wanted.protocol !== protocol || wanted.port !== port || this.#is_held(tracked)) continue;
      const same = wanted.address === address && wanted.ipv6Only === ipv6Only && wanted.reusePort === reusePort;
      if (this.#hold > 0 && same) return tracked;
      this.#give_back(tracked);
    }
    return undefined;
  }

  async #ask(params: Params<"bind">): Promise<BoundSocket> {
    const start = performance.now();
    for (let broken = false; ; ) {
      try {
        const socket = await this.#client.bind(params);
        this.#granted.set(socket, params);
        return socket;
      } catch (error) {
        const code = code_of(error);
        const passed = performance.now() - start;
        const wait = code === "EAGAIN" ? ((error as LowportError).retryAfterMs ?? 100) : ENDING_RETRY_MS;
        if (code === "EAGAIN" && passed + wait > PATIENCE_MS) throw error;
        if (code === "EADDRINUSE" && (passed > ENDING_MS || !(await this.#may_end(params)))) throw error;
        if (BROKEN.has(code) && broken) throw error;
        if (!["EAGAIN", "EADDRINUSE"].includes(code) && !BROKEN.has(code)) throw error;
        broken ||= BROKEN.has(code);
        await sleep(wait);
      }
    }
  }

  /** Whether the address is taken by this user, but by another program, whose supervisor may be about to end. */
  async #may_end({ protocol, port }: Params<"bind">): Promise<boolean> {
    const mine = [...this.#tracked].some(({ wanted }) => wanted.protocol === protocol && wanted.port === port);
    if (mine) return false;
    const leases = await this.#client.list();
    return leases.some((lease) => lease.uid === process.getuid?.() && lease.protocol === protocol && lease.port === port);
  }

  /** The program has the socket from now on. */
  keep(socket: BoundSocket, wanted: Wanted, inode: number, place: Place): void {
    const granted = this.#granted.get(socket) ?? wanted;
    this.#tracked.add({ socket, wanted, granted, inode, place, closed: undefined });
    this.#timer ??= setInterval(() => this.#look(), LOOK_MS).unref();
  }

  #look(): void {
    const now = performance.now();
    for (const tracked of [...this.#tracked]) {
      if (this.#is_held(tracked)) tracked.closed = undefined;
      else {
        tracked.closed ??= now;
        if (now - tracked.closed >= this.#hold * 1000) this.#give_back(tracked);
      }
    }
    this.#on_look();
  }

  /** The program has ended: what it had is held for its next start, or ends. */
  close(): void {
    clearInterval(this.#timer);
    this.#client.close();
  }
}
