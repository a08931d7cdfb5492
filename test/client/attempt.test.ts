/**
 * Promise: while `listen` climbs its ladder, a rung that fails is not seen by the program's own listeners, and success is
 * seen as ever; afterwards the server is as it was.
 */
import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import net from "node:net";
import { test } from "node:test";
import { attempt } from "../../client/attempt.js";

function record(emitter: EventEmitter): string[] {
  const seen: string[] = [];
  for (const event of ["error", "listening", "other"])
    emitter.on(event, (...args: unknown[]) => seen.push([event, ...args.map(String)].join(" ")));
  return seen;
}

test("an error rejects and is not emitted; without any listener it does not throw either", async () => {
  for (const listened of [true, false]) {
    const emitter = new EventEmitter();
    const seen = listened ? record(emitter) : [];
    const error = new Error("no");
    await assert.rejects(
      attempt(emitter, () => void setImmediate(() => emitter.emit("error", error))),
      (thrown) => thrown === error,
    );
    assert.deepEqual(seen, []);
    assert.ok(!Object.hasOwn(emitter, "emit"));
  }
});

test("listening resolves and is emitted, once, after which errors are emitted again", async () => {
  const emitter = new EventEmitter();
  const seen = record(emitter);
  await attempt(emitter, () => void setImmediate(() => emitter.emit("listening")));
  assert.ok(!Object.hasOwn(emitter, "emit"));
  emitter.emit("error", "later");
  assert.deepEqual(seen, ["listening", "error later"]);
});

test("other events pass while it waits", async () => {
  const emitter = new EventEmitter();
  const seen = record(emitter);
  await attempt(emitter, () => {
    assert.equal(emitter.emit("other", 1), true);
    assert.equal(emitter.emit("nobody hears it"), false);
    emitter.emit("listening");
  });
  assert.deepEqual(seen, ["other 1", "listening"]);
});

test("an exception of the start rejects, and the emitter is as it was", async () => {
  const emitter = new EventEmitter();
  const error = new Error("at once");
  await assert.rejects(
    attempt(emitter, () => {
      throw error;
    }),
    (thrown) => thrown === error,
  );
  assert.ok(!Object.hasOwn(emitter, "emit"));
});

test("an emit of the emitter's own is put back, and is called meanwhile", async () => {
  const emitter = new EventEmitter();
  const through: string[] = [];
  const own = (event: string | symbol, ...args: unknown[]) => {
    through.push(String(event));
    return EventEmitter.prototype.emit.call(emitter, event, ...args);
  };
  emitter.emit = own;
  await attempt(emitter, () => void emitter.emit("listening"));
  assert.equal(Object.getOwnPropertyDescriptor(emitter, "emit")?.value, own);
  assert.deepEqual(through, ["listening"]);
});

test("a real server that fails can be tried again", async (t) => {
  const other = net.createServer().listen(0, "127.0.0.1");
  t.after(() => other.close());
  await once(other, "listening");
  const { port } = other.address() as net.AddressInfo;
  const server = net.createServer();
  t.after(() => server.close());
  const seen = record(server);
  await assert.rejects(
    attempt(server, () => server.listen(port, "127.0.0.1")),
    { code: "EADDRINUSE", port },
  );
  await attempt(server, () => server.listen(0, "127.0.0.1"));
  assert.deepEqual(seen, ["listening"]);
  await assert.rejects(
    attempt(server, () => server.listen(0)),
    { code: "ERR_SERVER_ALREADY_LISTEN" },
  );
});

test("a server that is closed before it listens does not leave the caller waiting for ever", async () => {
  const server = net.createServer();
  const attempted = attempt(server, () => server.listen(0, "127.0.0.1"));
  server.close();
  const settled = attempted.then(
    () => "resolved",
    () => "rejected",
  );
  await once(server, "close");
  assert.equal(await Promise.race([settled, new Promise((resolve) => setImmediate(resolve, "waits for ever"))]), "rejected");
  assert.ok(!Object.hasOwn(server, "emit"));
});

test("a listener of 'listening' that throws does not leave the caller waiting", async () => {
  const emitter = new EventEmitter();
  emitter.once("listening", () => {
    throw new Error("the app's own");
  });
  const emit = () => setImmediate(() => assert.throws(() => emitter.emit("listening"), /the app's own/));
  await attempt(emitter, () => void emit());
});
