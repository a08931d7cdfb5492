/**
 * Promise: the helper may stop or be killed, and come back: the app serves throughout, is told ("disconnect", "reconnect",
 * and "lost" for what could not be had back), and connects again by itself.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { App, all_leases, freeze, get } from "./client-app.js";
import type { Context } from "./client-app-main.js";
import { start_helper, WEB_RULE } from "./helper-process.js";

await enter_box(import.meta.url);

const serve = async ({ lowport, node, say, heard, arg }: Context<{ reusePort: boolean; port: number }>) => {
  const client = new lowport.Client();
  client.on("disconnect", ({ code, message }) => say("disconnect", { code, message }));
  client.on("reconnect", () => say("reconnect"));
  client.on("lost", ({ port }, { code }) => say("lost", { port, code }));
  const { fd } = await client.bind({ protocol: "tcp", ...arg });
  const server = node.http.createServer((_, response) => response.end("served")).listen({ fd });
  await node.events.once(server, "listening");
  say("listening");
  await heard("bind");
  const { port } = await client.bind({ protocol: "tcp", port: 443 });
  say("bound", port);
};

for (const signal of ["SIGTERM", "SIGKILL"] as const)
  test(`${signal} to the helper, and it comes back: the app serves throughout and connects again`, async (t) => {
    const first = await start_helper(t);
    const app = App.start(t, USERS.alice, serve, { reusePort: false, port: 80 });
    await app.said("listening");
    for (let round = 1, helper = first; round <= 2; round++) {
      await helper.stop(signal);
      assert.equal((await app.said("disconnect", round)).code, "ECONNRESET");
      assert.equal(await get(80), "served");
      helper = await start_helper(t, { keep: true });
      // Only a socket that survives the helper (systemd's fd store) can be had back; else the app has the port itself.
      if (round === 1) {
        assert.deepEqual(await app.said("lost"), { port: 80, code: "EADDRINUSE" });
        await app.said("reconnect");
        app.tell("bind");
        assert.equal(await app.said("bound"), 443);
      }
      assert.equal(await get(80), "served");
    }
  });

test("the app of listen() goes on over a restart of the helper, and asks the new one for more", async (t) => {
  const helper = await start_helper(t);
  const app = App.start(t, USERS.alice, async ({ lowport, node, say, heard }) => {
    const make = () => node.http.createServer((_, response) => response.end("served"));
    await lowport.listen(make(), { port: 80 });
    say("listening");
    await heard("more");
    const { via } = await lowport.listen(make(), { port: 443 });
    say("more", via);
  });
  await app.said("listening");
  await helper.stop("SIGKILL");
  assert.equal(await get(80), "served");
  await start_helper(t, { keep: true });
  app.tell("more");
  assert.equal(await app.said("more"), "helper");
  assert.equal(await get(443), "served");
  assert.equal(await get(80), "served");
});

test("a call that was on its way when the helper died is told so", async (t) => {
  const helper = await start_helper(t);
  const app = App.start(t, USERS.alice, async ({ lowport, say, heard, describe_error }) => {
    await lowport.connect();
    await lowport.bind({ protocol: "tcp", port: 443 });
    say("ready");
    await heard("go");
    const asked = lowport.bind({ protocol: "tcp", port: 80 }).catch(describe_error);
    say("asked");
    say("answer", await asked);
  });
  await app.said("ready");
  await freeze(helper);
  app.tell("go");
  await app.said("asked");
  await helper.stop("SIGKILL");
  const answer = await app.said("answer");
  const { code, message } = answer;
  assert.equal(code, "ECONNRESET", JSON.stringify(answer));
  assert.match(message, /the lowport helper/);
});

test("a socket with reusePort is not doubled by a restart of the helper: every client is served", async (t) => {
  const helper = await start_helper(t, { rules: [{ ...WEB_RULE, reusePort: true }] });
  const app = App.start(t, USERS.alice, serve, { reusePort: true, port: 801 });
  await app.said("listening");
  await helper.stop();
  await app.said("disconnect");
  await start_helper(t, { keep: true });
  await Promise.race([app.said("reconnect"), app.said("lost")]);
  // A second listener on the port that nobody accepts from would get its share of these.
  const answers = Promise.all(Array.from({ length: 32 }, () => get(801)));
  const stuck = new Promise<never>((_, reject) => {
    const timer = setTimeout(() => reject(new Error("some clients are not served")), 5000);
    t.after(() => clearTimeout(timer));
  });
  assert.equal(new Set(await Promise.race([answers, stuck])).size, 1);
  assert.deepEqual((await all_leases()).length, 0);
});
