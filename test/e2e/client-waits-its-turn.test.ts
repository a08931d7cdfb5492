/**
 * Promise: who asks too often waits until it may ask again, and has its port then; the rate is the user's, so another program may
 * have used it up.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { App, get } from "./client-app.js";
import { type AuditLine, start_helper } from "./helper-process.js";
import { PlainApp } from "./plain-app.js";

await enter_box(import.meta.url);

/** The connection takes the first; the bind must wait for the next. */
const one = { config: { limits: { requestBurst: 1, requestsPerSecond: 5 } } };
const refused = (line: AuditLine) => line.method === "bind" && line.code === "EAGAIN";

test("listen", async (t) => {
  const helper = await start_helper(t, one);
  const app = App.start(t, USERS.alice, async ({ lowport, node, say, heard }) => {
    const server = node.http.createServer((_, response) => response.end("served"));
    await lowport.listen(server, { port: 80 });
    say("listening");
    await heard("end");
    server.close();
  });
  await app.said("listening");
  await helper.recorded("a bind that was refused", refused);
  assert.equal(await get(80), "served");
  app.tell("end");
  await app.ends_well();
});

test("listen gives up when its time is over, or its signal is aborted", async (t) => {
  await start_helper(t, { config: { limits: { requestBurst: 1, requestsPerSecond: 1 } } });
  const app = App.start(t, USERS.alice, async ({ lowport, node, say }) => {
    const listen = (options: object) =>
      lowport.listen(node.http.createServer(), { port: 80, ...options }).then(
        () => "listening",
        (error: { code?: string; name: string }) => error.code ?? error.name,
      );
    say("outcomes", [await listen({ timeout: 300 }), await listen({ signal: AbortSignal.timeout(100) })]);
  });
  const outcomes = (await app.said("outcomes")) as string[];
  assert.equal(outcomes[0], "EAGAIN");
  assert.notEqual(outcomes[1], "listening");
  await app.ends_well();
});

test("lowport/register", async (t) => {
  const helper = await start_helper(t, one);
  const app = PlainApp.start(
    t,
    USERS.alice,
    `import http from "node:http";
    http.createServer((_, response) => response.end("served")).listen(80, () => console.log("listening"));`,
  );
  await app.said("listening");
  await helper.recorded("a bind that was refused", refused);
  assert.equal(await get(80), "served");
});
