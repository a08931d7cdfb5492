/**
 * Peers of the helper that a test steers: processes of other users, each driving raw sockets through peer.py. They know
 * nothing of lowport's own client, so what they see is what any client in any language would.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";
import { DEFAULT_SOCKET } from "../../shared/protocol.js";
import { REPOSITORY, type User } from "./box.js";

/** What a failed operation of a peer throws; `code` is the errno name or Python's name of the error. */
export class PeerError extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(`${code}: ${message}`);
    this.code = code;
  }
}

interface RpcError {
  readonly code: number;
  readonly message: string;
  readonly data?: Record<string, unknown>;
}
export interface Reply {
  readonly jsonrpc: "2.0";
  readonly id: string | number | null;
  // biome-ignore lint/suspicious/noExplicitAny: what came over the wire is for the test to look at
  readonly result?: any;
  readonly error?: RpcError;
  /** Descriptors that came with the line, by the peer's numbers. */
  readonly fds: number[];
}
export interface SocketInfo {
  readonly family: 4 | 6;
  readonly protocol: "tcp" | "udp";
  readonly address: string;
  readonly port: number;
  readonly listening: boolean;
  readonly inode: number;
  readonly nonblocking: boolean;
  readonly ipv6Only: boolean;
}
export interface Granted {
  readonly lease: string;
  readonly fd: number;
  readonly resumed: boolean;
  readonly address: string;
}

type Answer = { ok: unknown } | { error: string; message: string };

/** A process of a user. It is killed when the test ends. */
export class Peer {
  readonly process: ChildProcess;
  readonly #waiting: { resolve: (value: unknown) => void; reject: (error: Error) => void }[] = [];
  #errors = "";

  private constructor(process: ChildProcess) {
    this.process = process;
    process.stderr?.setEncoding("utf8").on("data", (text: string) => (this.#errors += text));
    createInterface({ input: process.stdout as NodeJS.ReadableStream }).on("line", (line) => {
      const answer = JSON.parse(line) as Answer;
      const asked = this.#waiting.shift();
      if ("ok" in answer) asked?.resolve(answer.ok);
      else asked?.reject(new PeerError(answer.error, answer.message));
    });
    process.on("close", () => {
      for (const { reject } of this.#waiting.splice(0)) reject(new PeerError("GONE", `the peer ended: ${this.#errors}`));
    });
    process.stdin?.on("error", () => undefined);
  }

  /** @param wrapper a command line that starts the process, such as `unshare --user` */
  static async start(t: TestContext, { uid, gid, groups }: User, wrapper: readonly string[] = []): Promise<Peer> {
    const command = [...wrapper, "/usr/bin/python3", "-IS", join(REPOSITORY, "test/e2e/peer.py")];
    const child = spawn(command[0] as string, command.slice(1), { cwd: "/", env: { PATH: "/usr/bin:/bin" } });
    t.after(() => child.kill("SIGKILL"));
    const peer = new Peer(child);
    if (wrapper.length === 0) await peer.do("become", { uid, gid, groups });
    return peer;
  }

  do<T = unknown>(op: string, args: Record<string, unknown> = {}): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#waiting.push({ resolve: resolve as (value: unknown) => void, reject });
      this.process.stdin?.write(`${JSON.stringify({ op, ...args })}\n`);
    });
  }

  async connect(path = DEFAULT_SOCKET): Promise<Wire> {
    return new Wire(this, await this.do<number>("connect", { path }));
  }

  info(sock: number): Promise<SocketInfo> {
    return this.do("info", { sock });
  }

  close(sock: number | number[]): Promise<void> {
    return this.do("close", { sock });
  }

  /** Dies without a word. */
  async kill(): Promise<void> {
    const ended = new Promise((resolve) => this.process.once("close", resolve));
    this.process.kill("SIGKILL");
    await ended;
  }
}

let next_id = 1;

/** A request as a line. */
export function request(method: string, params?: unknown, id: string | number = next_id++): string {
  return `${JSON.stringify({ jsonrpc: "2.0", id, method, ...(params === undefined ? {} : { params }) })}\n`;
}

/** One connection of a peer to the helper. */
export class Wire {
  readonly peer: Peer;
  readonly conn: number;
  constructor(peer: Peer, conn: number) {
    this.peer = peer;
    this.conn = conn;
  }

  send(text: string | Buffer, fds: number[] = []): Promise<void> {
    const data = Buffer.from(text).toString("base64");
    return this.peer.do("send", { conn: this.conn, data, fds });
  }

  /** The next line, as sent, and the descriptors that came with it. */
  line(timeout = 10): Promise<{ text: string; fds: number[] }> {
    return this.peer.do("line", { conn: this.conn, timeout });
  }

  async reply(): Promise<Reply> {
    const { text, fds } = await this.line();
    return { ...(JSON.parse(text) as Omit<Reply, "fds">), fds };
  }

  async ask(method: string, params?: unknown): Promise<Reply> {
    const text = request(method, params);
    await this.send(text);
    const reply = await this.reply();
    assert.equal(reply.id, (JSON.parse(text) as { id: number }).id);
    assert.equal(reply.jsonrpc, "2.0");
    return reply;
  }

  /** Asks for what must be granted. */
  async bind(params: Record<string, unknown>): Promise<Granted> {
    const reply = await this.ask("bind", { protocol: "tcp", ...params });
    assert.equal(reply.error, undefined, JSON.stringify(reply.error));
    assert.equal(reply.fds.length, 1);
    const { lease, resumed, address } = reply.result as Granted;
    return { lease, resumed, address, fd: reply.fds[0] as number };
  }

  /** Asks for what must be refused with this error, and gives its data. */
  async refused(method: string, params: unknown, code: number, name?: string): Promise<Record<string, unknown>> {
    const reply = await this.ask(method, params);
    assert.equal(reply.result, undefined, JSON.stringify(reply));
    assert.equal(reply.error?.code, code, JSON.stringify(reply.error));
    assert.equal(reply.error?.data?.["code"], name, JSON.stringify(reply.error));
    assert.equal(typeof reply.error?.data?.["reason"], "string");
    assert.equal(typeof reply.error?.message, "string");
    assert.deepEqual(reply.fds, []);
    return reply.error?.data ?? {};
  }

  /** All that comes until the helper closes. */
  rest(timeout = 10): Promise<{ text: string; how: string }> {
    return this.peer.do("rest", { conn: this.conn, timeout });
  }

  shutdown(how: 0 | 1 | 2): Promise<void> {
    return this.peer.do("shutdown", { sock: this.conn, how });
  }

  close(): Promise<void> {
    return this.peer.close(this.conn);
  }
}

/** Asks over HTTP at a port while the holder of the listener answers `text`; gives the body and the address seen. */
export async function fetch_from(
  client: Peer,
  server: Peer,
  listener: number,
  address: string,
  port: number,
  text = "hello",
): Promise<{ body: string; remote: string }> {
  const sock = await client.do<number>("dial", { address, port });
  const conn = await server.do<number>("accept", { sock: listener });
  await client.do("say", { sock, text: "GET / HTTP/1.1\r\nhost: box\r\n\r\n" });
  const remote = await server.do<string>("answer", { conn, text });
  const { text: response } = await client.do<{ text: string }>("rest_of", { sock });
  await client.close(sock);
  return { body: response.split("\r\n\r\n")[1] ?? "", remote };
}
