/**
 * A helper that says what a test wants, right or wrong: a Unix socket made with the addon, in the test's own process, so that
 * descriptors can be counted on both sides. It needs no rights.
 */
import assert from "node:assert/strict";
import { closeSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { LineReader } from "../../shared/framing.js";
import { errno_name, native } from "../../shared/native.js";
import { READABLE, unwatch, watch } from "../../shared/poll.js";

interface Request {
  readonly id: number;
  readonly method: string;
  readonly params: Record<string, unknown>;
}

/** One connection of a client. */
export class Guest {
  readonly requests: Request[] = [];
  readonly #fd: number;
  #open = true;

  constructor(fd: number, on_request: (guest: Guest, request: Request) => void) {
    this.#fd = fd;
    const reader = new LineReader();
    const chunk = Buffer.allocUnsafeSlow(65_536);
    watch(fd, READABLE, () => {
      const got = native().receive(fd, chunk);
      if (got < 0 && errno_name(got) === "EAGAIN") return;
      if (got <= 0) return this.close();
      reader.push(chunk, got);
      for (let line = reader.next(); line !== undefined; line = reader.next()) {
        const request = JSON.parse(String(line)) as Request;
        this.requests.push(request);
        if (this.#open) on_request(this, request);
      }
      reader.keep();
    });
  }

  /** Sends bytes as they are, with descriptors on the first. */
  say(text: string, fds: readonly number[] = []): void {
    const sent = native().send(this.#fd, Buffer.from(text), Int32Array.from(fds), fds.length);
    assert.equal(sent, Buffer.byteLength(text));
  }

  /** Sends as much as the kernel takes. @returns false if the client has gone */
  pour(bytes: Buffer): boolean {
    const sent = native().send(this.#fd, bytes, new Int32Array(0), 0);
    return sent >= 0 || errno_name(sent) === "EAGAIN";
  }

  answer(id: unknown, result: unknown, fds: readonly number[] = []): void {
    this.say(`${JSON.stringify({ jsonrpc: "2.0", id, result })}\n`, fds);
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    unwatch(this.#fd);
    closeSync(this.#fd);
  }
}

export interface FakeHelper {
  readonly path: string;
  readonly guests: Guest[];
  /** A listening socket that the fake has to give away; its port. */
  readonly listener: { readonly fd: number; readonly port: number };
  /** Closes all connections and its socket. */
  stop(): void;
}

/** A result of `bind` as the protocol has it. */
export const granted = (port: number, fds = 1) => ({
  lease: "fake-lease",
  protocol: "tcp",
  address: "127.0.0.1",
  port,
  resumed: false,
  fds,
});

/** Starts a fake helper that calls `on_request` for each request that comes. */
export async function start_fake(
  t: TestContext,
  on_request: (guest: Guest, request: Request, helper: FakeHelper) => void,
): Promise<FakeHelper> {
  const folder = mkdtempSync(join(tmpdir(), "lowport-fake-"));
  const path = join(folder, "socket");
  const server: Server = createServer();
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address() as { port: number };
  const { fd } = (server as unknown as { _handle: { fd: number } })._handle;
  const control = native().openUnix(path, 16);
  assert.ok(control >= 0);
  const guests: Guest[] = [];
  let open = true;
  const helper: FakeHelper = {
    path,
    guests,
    listener: { fd, port },
    stop: () => {
      if (!open) return;
      open = false;
      for (const guest of guests) guest.close();
      unwatch(control);
      closeSync(control);
      rmSync(folder, { recursive: true });
    },
  };
  watch(control, READABLE, () => {
    for (let conn = native().acceptUnix(control); conn >= 0; conn = native().acceptUnix(control))
      guests.push(new Guest(conn, (guest, request) => on_request(guest, request, helper)));
  });
  t.after(async () => {
    helper.stop();
    await new Promise((closed) => server.close(closed));
  });
  return helper;
}

/** How many descriptors this process has. */
export const count_fds = () => readdirSync("/proc/self/fd").length;
