/**
 * Promise: with `hold` an app may be killed and started again while clients go on connecting, and none of them is refused:
 * the next process has the same socket, with the connections that queued meanwhile.
 */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { enter_box, USERS } from "./box.js";
import { App, all_leases, get, no_leases } from "./client-app.js";
import type { Context } from "./client-app-main.js";
import { start_helper, until } from "./helper-process.js";

await enter_box(import.meta.url);

const serve = async ({ lowport, node, say, heard, arg }: Context<{ hold: number }>) => {
  const server = node.http.createServer((_, response) => response.end(String(node.process.pid)));
  const { via, lease } = await lowport.listen(server, { port: 80, hold: arg.hold });
  say("listening", { via, resumed: lease?.resumed });
  await heard("close");
  server.close();
  server.closeAllConnections();
};

/** Clients that ask over and over until told to stop; gives what they got: bodies, and codes of errors. */
function load(t: TestContext, clients: number) {
  const bodies = new Set<string>();
  const errors: string[] = [];
  const done = new AbortController();
  t.after(() => done.abort());
  const client = async () => {
    while (!done.signal.aborted) {
      try {
        bodies.add(await get(80));
      } catch (error) {
        errors.push((error as NodeJS.ErrnoException).code ?? "");
        await turn();
      }
    }
  };
  const all = Promise.all(Array.from({ length: clients }, client));
  return {
    bodies,
    errors,
    stop: async () => {
      done.abort();
      await all;
    },
  };
}

test("killed three times under load with hold: no connection is refused, and each next one resumes", async (t) => {
  await start_helper(t);
  let app = App.start(t, USERS.alice, serve, { hold: 10 });
  assert.deepEqual(await app.said("listening"), { via: "helper", resumed: false });
  const { bodies, errors, stop } = load(t, 8);
  for (let round = 1; round <= 3; round++) {
    await until("the app is under load", () => bodies.has(String(app.pid)));
    await app.kill();
    assert.deepEqual(
      await until("the lease is held", async () => {
        const leases = await all_leases();
        return leases[0]?.state === "held" && leases;
      }).then((leases) => leases.map(({ port, hold }) => [port, hold])),
      [[80, 10]],
    );
    app = App.start(t, USERS.alice, serve, { hold: 10 });
    assert.deepEqual(await app.said("listening"), { via: "helper", resumed: true });
  }
  await until("the last one is under load", () => bodies.has(String(app.pid)));
  await stop();
  // A connection that the killed process had accepted is reset with it; one that it had not is served by the next.
  assert.deepEqual(
    errors.filter((code) => code !== "ECONNRESET"),
    [],
  );
  assert.equal(bodies.size, 4);
  app.tell("close");
  await app.ends_well();
  await no_leases();
});

test("a connection made while nobody is there is served by the next process", async (t) => {
  await start_helper(t);
  const first = App.start(t, USERS.alice, serve, { hold: 10 });
  await first.said("listening");
  await first.kill();
  const waiting = get(80);
  const second = App.start(t, USERS.alice, serve, { hold: 10 });
  assert.equal(await waiting, String(second.pid));
});

test("without hold the port is closed with its process", async (t) => {
  await start_helper(t);
  const app = App.start(t, USERS.alice, serve, { hold: 0 });
  await app.said("listening");
  await app.kill();
  await no_leases();
  await assert.rejects(get(80), { code: "ECONNREFUSED" });
});

test("an app that drains its last connections has closed its port: new clients are refused, the next app may have it", async (t) => {
  await start_helper(t);
  const app = App.start(t, USERS.alice, async ({ lowport, node, say, heard }) => {
    const server = node.http.createServer((_, response) => {
      response.write("begun");
      void heard("finish").then(() => response.end(", finished"));
      say("serving");
    });
    await lowport.listen(server, { port: 80 });
    say("listening");
    await heard("close");
    server.close(() => say("closed"));
    say("draining");
  });
  await app.said("listening");
  const slow = get(80);
  slow.catch(() => undefined); // judged below
  await app.said("serving");
  app.tell("close");
  await app.said("draining");
  await no_leases();
  await assert.rejects(get(80), { code: "ECONNREFUSED" });
  const next = App.start(t, USERS.alice, serve, { hold: 0 });
  await next.said("listening");
  app.tell("finish");
  assert.equal(await slow, "begun, finished");
  await app.ends_well();
  assert.equal(await get(80), String(next.pid));
});
