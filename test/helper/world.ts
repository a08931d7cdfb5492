/** A server of the helper in this process, on a socket in a temporary folder, and a peer that talks to it. No rights needed. */
import { closeSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pino } from "pino";
import { own_addon } from "../../client/own-addon.js";
import { AuditLog } from "../../helper/audit.js";
import type { Config } from "../../helper/config.js";
import { make_policy } from "../../helper/policy.js";
import { read_rule } from "../../helper/rules.js";
import { Server } from "../../helper/server.js";
import type { RuleEntry } from "../../shared/config-schema.js";
import { LineReader } from "../../shared/framing.js";
import { MAX_FDS, native } from "../../shared/native.js";
import { READABLE, unwatch, watch } from "../../shared/poll.js";
import { LIMITS, type Limits } from "../../shared/protocol.js";
import { temp_folder } from "../fixtures.js";

export const UID = process.getuid?.() ?? -1;

export function make_config(rules: RuleEntry[], limits: Partial<Limits> = {}, operators: number[] = []): Config {
  const note = (pointer: string, message: string) => {
    throw new Error(`${pointer}: ${message}`);
  };
  return {
    socket: { path: "/nowhere", gid: 0, mode: 0o600 },
    user: { name: "nobody", uid: 65534, gid: 65534 },
    operators: { uids: new Set(operators), gids: new Set() },
    audit: { path: "/nowhere", durability: "write", syslog: false },
    limits: { ...LIMITS, ...limits },
    policy: make_policy(rules.map((rule) => read_rule(rule, note))),
    fixed: "",
  };
}

/** What an answer may have; only what the tests look at. */
export interface Reply {
  id: string | number | null;
  result?: Record<string, unknown>;
  error?: { code: number; message: string; data: Record<string, unknown> };
}

export class TestPeer {
  readonly fd: number;
  /** Descriptors received and not taken. */
  readonly fds: number[] = [];
  readonly #reader = new LineReader(1 << 20);
  readonly #bytes = Buffer.alloc(65_536);

  constructor(path: string) {
    this.fd = native().openUnix(path, 0);
    if (this.fd < 0) throw new Error(`cannot connect: ${this.fd}`);
  }

  send(text: string | Buffer, fds: number[] = []): number {
    return native().send(this.fd, Buffer.from(text), Int32Array.from(fds), fds.length);
  }

  /** The next line as JSON; "closed" at the end. */
  async line(): Promise<unknown> {
    for (;;) {
      const line = this.#reader.next();
      if (typeof line === "symbol") throw new Error(String(line));
      if (line !== undefined) return JSON.parse(line) as unknown;
      this.#reader.keep();
      await new Promise<void>((resolve) => watch(this.fd, READABLE, () => resolve()));
      unwatch(this.fd);
      const fds = new Int32Array(MAX_FDS + 1);
      const got = own_addon().receiveWithFds(this.fd, this.#bytes, fds);
      if (got <= 0) return "closed";
      this.fds.push(...fds.subarray(1, 1 + (fds[0] as number)));
      this.#reader.push(this.#bytes, got);
    }
  }

  async ask(method: string, params?: object, id: string | number = 1): Promise<Reply> {
    this.send(`${JSON.stringify({ jsonrpc: "2.0", method, params, id })}\n`);
    return (await this.line()) as Reply;
  }

  close(): void {
    closeSync(this.fd);
    for (const fd of this.fds.splice(0)) closeSync(fd);
  }
}

export interface TestServer {
  readonly server: Server;
  readonly connect: () => TestPeer;
  /** The audit log's records so far. */
  readonly records: () => Record<string, unknown>[];
  readonly stop: () => Promise<void>;
}

export function start_server(config: Config, durability: "write" | "fsync" = "write"): TestServer {
  const folder = temp_folder();
  const path = join(folder, "socket");
  const log_path = join(folder, "audit.log");
  const silent = pino({ level: "silent" });
  const server = new Server(native().openUnix(path, 100), config, new AuditLog(log_path, durability), silent);
  server.start();
  return {
    server,
    connect: () => new TestPeer(path),
    records: () =>
      readFileSync(log_path, "utf8")
        .split("\n")
        .slice(0, -1)
        .map((line) => JSON.parse(line) as Record<string, unknown>),
    stop: () => new Promise((resolve) => server.stop(resolve)),
  };
}
