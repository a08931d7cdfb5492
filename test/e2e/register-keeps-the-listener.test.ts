/**
 * Promise: with LOWPORT_HOLD an unchanged app is restarted under load without a lost connection, whether it is killed or closes
 * its server and ends; without it the port is free as soon as the server has closed.
 */
import assert from "node:assert/strict";
import http from "node:http";
import { test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { all_leases, get, no_leases } from "./client-app.js";
import { start_helper, until } from "./helper-process.js";
import { PlainApp } from "./plain-app.js";

await enter_box(import.meta.url);

const APP = `import http from "node:http";
  const server = http.createServer((_, response) => response.end(String(process.pid)));
  const listen = () => server.listen(80, () => console.log("listening"));
  listen();
  process.once("SIGTERM", () => server.close());
  process.on("SIGUSR2", () => server.close(() => console.log("closed")));
  process.stdin.on("data", listen).unref();`;

/** A GET whose connection is made while nobody accepts it must wait, and not be refused or reset. */
function ask(): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = http.get({ host: "127.0.0.1", port: 80, agent: false, timeout: 15_000 }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (part: string) => (body += part));
      response.on("end", () => resolve(body)).on("error", reject);
    });
    request.on("timeout", () => request.destroy(new Error("not answered"))).on("error", reject);
  });
}

for (const [how, signal] of [
  ["closes its server and ends", "SIGTERM"],
  ["crashes between two requests", "SIGKILL"],
] as const)
  test(`an app that ${how} is followed by the next, and every client is served`, async (t) => {
    await start_helper(t);
    const env = { LOWPORT_HOLD: "30" };
    let app = PlainApp.start(t, USERS.alice, APP, { env });
    await app.said("listening");
    const lease = (await all_leases())[0]?.lease;
    for (let round = 0; round < 3; round++) {
      assert.equal(await ask(), String(app.pid));
      await app.kill(signal);
      await until("the helper holds it", async () => (await all_leases())[0]?.state === "held");
      const answers = Promise.all(Array.from({ length: 20 }, ask)); // nobody is there to accept them
      app = PlainApp.start(t, USERS.alice, APP, { env });
      assert.deepEqual(new Set(await answers), new Set([String(app.pid)]));
      assert.equal((await all_leases())[0]?.lease, lease, "it is the same socket");
    }
  });

test("with a hold, an app that closes its server listens again on the same port", async (t) => {
  await start_helper(t);
  const app = PlainApp.start(t, USERS.alice, `${APP} setInterval(() => undefined, 1000);`, { env: { LOWPORT_HOLD: "30" } });
  await app.said("listening");
  for (let round = 2; round <= 3; round++) {
    app.process.kill("SIGUSR2");
    await app.said("closed", round - 1);
    assert.equal((await all_leases())[0]?.state, "active", "the process is still there");
    app.tell("listen");
    await app.said("listening", round);
    assert.equal(await get(80), String(app.pid));
    assert.equal((await all_leases()).length, 1);
  }
});

test("a hold that is over ends, also while the process lives on", async (t) => {
  await start_helper(t);
  const app = PlainApp.start(t, USERS.alice, `${APP} setInterval(() => undefined, 1000);`, { env: { LOWPORT_HOLD: "1" } });
  await app.said("listening");
  app.process.kill("SIGUSR2");
  await app.said("closed");
  await no_leases();
});

test("without a hold the port is another user's as soon as the server has closed", async (t) => {
  await start_helper(t);
  const alice = PlainApp.start(t, USERS.alice, `${APP} setInterval(() => undefined, 1000);`);
  await alice.said("listening");
  alice.process.kill("SIGUSR2");
  await alice.said("closed");
  await no_leases();
  const carol = PlainApp.start(t, USERS.carol, APP);
  await carol.said("listening");
  assert.equal(await get(80), String(carol.pid));
});
