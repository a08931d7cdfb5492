/**
 * Promise: the connection to the helper is the lifeline of what it granted, but nothing of the library keeps the process
 * alive when the app is done: not an idle connection, not a lease, not the timers that try to connect again.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { App, all_leases, freeze, no_leases } from "./client-app.js";
import { start_helper } from "./helper-process.js";

await enter_box(import.meta.url);

test("an idle connect() does not keep the process", async (t) => {
  await start_helper(t);
  const app = App.start(t, USERS.alice, async ({ lowport, say }) => {
    const client = await lowport.connect();
    say("status", await client.call("status", {}));
  });
  const status = await app.said("status");
  assert.deepEqual(status.you, { uid: 2001, gid: 2001, groups: [990], operator: false });
  await app.ends_well();
});

for (const what of ["closed", "released", "left open"] as const)
  test(`a bind() whose descriptor is ${what} does not keep the process`, async (t) => {
    await start_helper(t);
    const app = App.start(
      t,
      USERS.alice,
      async ({ lowport, node, say, arg }) => {
        const socket = await lowport.bind({ protocol: "tcp", port: 80 });
        say("bound", socket);
        if (arg === "closed") node.fs.closeSync(socket.fd);
        if (arg === "released") await socket.release();
      },
      what,
    );
    const { protocol, address, port, resumed } = await app.said("bound");
    assert.deepEqual({ protocol, address, port, resumed }, { protocol: "tcp", address: "::", port: 80, resumed: false });
    await app.ends_well();
    await no_leases();
  });

test("a server does keep it, and an unref()ed one does not", async (t) => {
  await start_helper(t);
  const kept = App.start(t, USERS.alice, async ({ lowport, node, say }) => {
    await lowport.listen(node.http.createServer(), { port: 80 });
    say("listening");
    process.once("beforeExit", () => say("out of work"));
  });
  const left = App.start(t, USERS.alice, async ({ lowport, node, say }) => {
    const server = node.http.createServer();
    await lowport.listen(server, { port: 443 });
    say("listening");
    server.unref();
  });
  await kept.said("listening");
  await left.said("listening");
  await left.ends_well();
  assert.deepEqual(
    (await all_leases()).map(({ port }) => port),
    [80],
  );
  assert.deepEqual(
    kept.events.map(({ event }) => event),
    ["listening"],
  );
});

test("it ends by itself while the helper is away, for the retry timers do not hold it", async (t) => {
  const helper = await start_helper(t);
  const app = App.start(t, USERS.alice, async ({ lowport, say, node }) => {
    const client = new lowport.Client();
    client.on("disconnect", ({ code, syscall }) => say("disconnect", { code, syscall }));
    await client.bind({ protocol: "tcp", port: 80 });
    // The lifeline is silent: something else must wait for its end, and then be gone.
    const waiting = setInterval(() => undefined, 1000);
    client.once("disconnect", () => clearInterval(waiting));
    node.process.once("exit", () => say("exit"));
    say("bound");
  });
  await app.said("bound");
  await helper.stop("SIGKILL");
  assert.deepEqual(await app.said("disconnect"), { code: "ECONNRESET", syscall: "read" });
  await app.ends_well();
  assert.equal(app.events.at(-1)?.event, "exit");
});

test("a call that waits for its reply does keep it", async (t) => {
  const helper = await start_helper(t);
  await freeze(helper);
  const app = App.start(t, USERS.alice, ({ lowport, say }) => {
    say("asking");
    void lowport.bind({ protocol: "tcp", port: 80 }).then(({ port }) => say("bound", port));
  });
  await app.said("asking");
  helper.process.kill("SIGCONT");
  assert.equal(await app.said("bound"), 80);
  await app.ends_well();
});
