/** Promise: what `listen` puts around a server's `close` while it asks the helper is gone again if nothing was granted. */
import assert from "node:assert/strict";
import { closeSync, openSync } from "node:fs";
import { createServer } from "node:net";
import { test } from "node:test";
import { LowportError } from "../../client/errors.js";
import { lend } from "../../client/listen.js";
import type { BoundSocket } from "../../client/types.js";

const refused = Object.assign(new Error("listen EACCES: permission denied 0.0.0.0:80"), { code: "EACCES", syscall: "listen" });

/** A grant whose descriptor is only a file, and how often it was given back. */
function make_grant(): BoundSocket & { released: number } {
  const fd = openSync("/dev/null", "r");
  const grant = { lease: "l", protocol: "tcp" as const, address: "::", port: 80, resumed: false, fd, released: 0 };
  return Object.assign(grant, { release: async () => void grant.released++ });
}

test("a refusal leaves the server as it was, however often it is asked for", async () => {
  const server = createServer();
  const no = async () => {
    throw new LowportError("EACCES", "bind", "no rule");
  };
  for (let i = 0; i < 20; i++) await assert.rejects(lend(server, no, refused), { code: "EACCES", syscall: "listen" });
  assert.equal(server.listenerCount("close"), 0);
  assert.equal(Object.hasOwn(server, "close"), false);
});

test("closing gives the lease back once, and leaves a close of the program's own in place", async () => {
  const server = createServer();
  let closed = 0;
  const own = () => {
    closed++;
    return server;
  };
  server.close = own;
  const grant = make_grant();
  assert.equal(await lend(server, async () => grant, refused), grant);
  server.close();
  assert.equal(Reflect.get(server, "close"), own);
  server.close();
  server.emit("close");
  assert.deepEqual([closed, grant.released], [2, 1]);
  closeSync(grant.fd);
});

test("a server that is closed while the helper is asked gets nothing, and the grant goes back with its descriptor", async () => {
  const server = createServer();
  const grant = make_grant();
  const ask = async () => {
    server.close();
    return grant;
  };
  await assert.rejects(lend(server, ask, refused), { code: "ECANCELED" });
  assert.equal(grant.released, 1);
  assert.throws(() => closeSync(grant.fd), { code: "EBADF" });
});
