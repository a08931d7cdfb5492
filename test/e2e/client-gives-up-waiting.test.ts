/**
 * Promise: who gives up waiting, by a signal or by time, is told at once; what the helper grants after that is given back,
 * and no descriptor is left.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { App, freeze, get, no_leases } from "./client-app.js";
import type { Context } from "./client-app-main.js";
import { start_helper } from "./helper-process.js";

await enter_box(import.meta.url);

type How = "bind" | "listen" | "bindUdp";

/** Starts a call, gives it up when told, and shows what it has left behind. */
const program = async ({ lowport, node, say, heard, describe_error, open_fds, arg }: Context<{ how: How; timeout?: number }>) => {
  const { how, timeout } = arg;
  const client = await lowport.connect();
  await lowport.bind({ protocol: "tcp", port: 800 }); // so that the shared connection is there
  const before = open_fds();
  const controller = new AbortController();
  const options = { port: 80, signal: controller.signal, timeout };
  const server = node.http.createServer();
  const udp = node.dgram.createSocket("udp4");
  const calls = {
    bind: () => lowport.bind({ protocol: "tcp", ...options }),
    listen: () => lowport.listen(server, options),
    bindUdp: () => lowport.bindUdp(udp, options),
  };
  say("ready");
  await heard("go");
  const result = calls[how]().then(
    () => say("granted"),
    (error) => say("failed", { ...describe_error(error), reason: error === controller.signal.reason }),
  );
  say("asked");
  if (timeout === undefined) {
    await heard("abort");
    controller.abort(new Error("changed my mind"));
  }
  await result;
  await heard("show");
  await client.list(); // a round trip later all that was on its way has come
  await lowport.bind({ protocol: "tcp", port: 801 });
  say("shown", { more: open_fds().length - before.length, listening: server.listening });
  udp.close();
};

for (const how of ["bind", "listen", "bindUdp"] as const)
  for (const by of ["signal", "timeout"] as const)
    test(`${how} gives up by ${by} while the helper hangs; the late grant is given back`, async (t) => {
      const helper = await start_helper(t);
      const app = App.start(t, USERS.alice, program, by === "timeout" ? { how, timeout: 50 } : { how });
      await app.said("ready");
      await freeze(helper);
      app.tell("go");
      await app.said("asked");
      if (by === "signal") app.tell("abort");
      const error = await app.said("failed");
      if (by === "signal")
        assert.deepEqual({ reason: error.reason, message: error.message }, { reason: true, message: "changed my mind" });
      else {
        assert.equal(error.code, "ETIMEDOUT");
        assert.match(error.message, /\/run\/lowport\/lowport\.sock did not answer within 50 ms/);
      }
      helper.process.kill("SIGCONT");
      await helper.recorded("the late grant", ({ method, params }) => method === "bind" && params?.["port"] === 80);
      await helper.recorded("that it was given back", ({ method }) => method === "release");
      app.tell("show");
      assert.deepEqual(await app.said("shown"), { more: 1, listening: false }); // 1: port 801
      await app.ends_well();
      await no_leases();
    });

test("a signal that is aborted already: nothing is asked at all", async (t) => {
  const helper = await start_helper(t);
  const app = App.start(t, USERS.alice, async ({ lowport, node, say }) => {
    const signal = AbortSignal.abort(new Error("no"));
    const udp = node.dgram.createSocket("udp4");
    const server = node.http.createServer();
    const results = await Promise.allSettled([
      lowport.bind({ protocol: "tcp", port: 80, signal }),
      lowport.listen(server, { port: 80, signal }),
      lowport.listen(server, { port: 8080, signal }),
      lowport.bindUdp(udp, { port: 80, signal }),
      lowport.connect({ signal }),
    ]);
    udp.close();
    say(
      "settled",
      results.map((result) => result.status === "rejected" && result.reason === signal.reason),
    );
  });
  assert.deepEqual(await app.said("settled"), [true, true, true, true, true]);
  await app.ends_well();
  assert.ok(!helper.audit().some(({ event }) => event === "connect"));
});

test("a reason that is no Error is given as it is", async (t) => {
  await start_helper(t);
  const app = App.start(t, USERS.alice, async ({ lowport, say }) => {
    const signal = AbortSignal.abort("no");
    say("reason", await lowport.bind({ protocol: "tcp", port: 80, signal }).catch((error: unknown) => error));
  });
  assert.equal(await app.said("reason"), "no");
});

test("a signal that is aborted after all is done changes nothing", async (t) => {
  await start_helper(t);
  const app = App.start(t, USERS.alice, async ({ lowport, node, say }) => {
    const controller = new AbortController();
    const server = node.http.createServer((_, response) => response.end("still here"));
    await lowport.listen(server, { port: 80, signal: controller.signal });
    controller.abort();
    say("aborted");
  });
  await app.said("aborted");
  assert.equal(await get(80), "still here");
});

test("AbortSignal.timeout works like any signal", async (t) => {
  const helper = await start_helper(t);
  await freeze(helper);
  const app = App.start(t, USERS.alice, async ({ lowport, say, describe_error }) => {
    await lowport.connect({ signal: AbortSignal.timeout(50) }).catch((error: unknown) => say("failed", describe_error(error)));
  });
  assert.equal((await app.said("failed")).name, "TimeoutError");
  await app.ends_well();
  helper.process.kill("SIGCONT");
});
