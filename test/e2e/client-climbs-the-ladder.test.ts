/**
 * Promise: `listen` and `bindUdp` take the first way that works: a socket that the process inherited, if it fits; an
 * ordinary bind; and only where the kernel says EACCES the helper, which else hears nothing of it.
 */
import assert from "node:assert/strict";
import { closeSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { native } from "../../shared/native.js";
import { enter_box, USERS } from "./box.js";
import { App, get } from "./client-app.js";
import type { Context } from "./client-app-main.js";
import { start_helper } from "./helper-process.js";

await enter_box(import.meta.url);

/** The environment of sd_listen_fds(3), with the process's own id. */
const ACTIVATED = ["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh"];
const ONE = { LISTEN_FDS: "1" };

function inherited(t: TestContext, address: string, port: number, stream = true): number {
  const fd = native().bindSocket(stream, address, port, false, false, 511);
  assert.ok(fd >= 0, String(fd));
  t.after(() => closeSync(fd));
  return fd;
}

const serve = async ({
  lowport,
  node,
  say,
  describe_error,
  arg,
}: Context<{ port: number; host?: string; ipv6Only?: boolean }>) => {
  const server = node.http.createServer((_, response) => response.end(arg.host ?? "all"));
  try {
    const { via } = await lowport.listen(server, arg);
    say("listening", { via, address: server.address() });
  } catch (error) {
    say("failed", describe_error(error));
  }
};

test("an inherited socket that fits is taken, and the helper is not asked", async (t) => {
  const helper = await start_helper(t);
  const fd = inherited(t, "::", 25);
  const app = App.start(t, USERS.mallory, serve, { port: 25 }, { inherit: [fd], wrapper: ACTIVATED, env: ONE });
  const { via, address } = await app.said("listening");
  assert.equal(via, "inherited");
  assert.deepEqual(address, { address: "::", family: "IPv6", port: 25 });
  assert.equal(await get(25), "all");
  assert.ok(!helper.audit().some(({ event }) => event === "connect"));
});

test("an inherited socket on the address that is asked for is found among others", async (t) => {
  await start_helper(t);
  const inherit = [inherited(t, "127.0.0.1", 25), inherited(t, "127.0.0.2", 26), inherited(t, "127.0.0.2", 25)];
  const options = { inherit, wrapper: ACTIVATED, env: { LISTEN_FDS: "3" } };
  const app = App.start(t, USERS.alice, serve, { port: 25, host: "127.0.0.2" }, options);
  const { via, address } = await app.said("listening");
  assert.deepEqual({ via, address }, { via: "inherited", address: { address: "127.0.0.2", family: "IPv4", port: 25 } });
  assert.equal(await get(25, "127.0.0.2"), "127.0.0.2");
});

for (const [why, address, port, stream, arg, env] of [
  ["on another port", "::", 81, true, { port: 80 }, ONE],
  ["on another address", "127.0.0.1", 80, true, { port: 80, host: "127.0.0.2" }, ONE],
  ["of UDP", "::", 80, false, { port: 80 }, ONE],
  ["beyond LISTEN_FDS", "::", 81, true, { port: 80 }, { LISTEN_FDS: "0" }],
] as const)
  test(`an inherited socket ${why} does not fit: the helper is asked`, async (t) => {
    await start_helper(t);
    const fd = inherited(t, address, port, stream);
    const app = App.start(t, USERS.alice, serve, arg, { inherit: [fd], wrapper: ACTIVATED, env });
    assert.equal((await app.said("listening")).via, "helper");
    assert.equal(await get(80, "host" in arg ? arg.host : "127.0.0.1"), "host" in arg ? arg.host : "all");
  });

test("a socket that is another process's to take (LISTEN_PID) is not taken", async (t) => {
  await start_helper(t);
  const fd = inherited(t, "127.0.0.1", 800);
  const options = { inherit: [fd], env: { ...ONE, LISTEN_PID: String(process.pid) } };
  const app = App.start(t, USERS.alice, serve, { port: 800, host: "127.0.0.1" }, options);
  assert.equal((await app.said("failed")).code, "EADDRINUSE");
});

test("an inherited socket is taken once", async (t) => {
  await start_helper(t);
  const program = async ({ lowport, node, say }: Context<null>) => {
    const first = await lowport.listen(node.http.createServer(), { port: 25 });
    const second = await lowport.listen(node.http.createServer(), { port: 25 }).catch((error: Error) => error);
    say("both", { first: first.via, second: (second as NodeJS.ErrnoException).code });
  };
  const options = { inherit: [inherited(t, "::", 25)], wrapper: ACTIVATED, env: ONE };
  const app = App.start(t, USERS.alice, program, null, options);
  assert.deepEqual(await app.said("both"), { first: "inherited", second: "EACCES" });
});

test("a high port is bound directly, and the helper hears nothing of it", async (t) => {
  const helper = await start_helper(t);
  const app = App.start(t, USERS.alice, serve, { port: 8080 });
  assert.equal((await app.said("listening")).via, "direct");
  assert.equal(await get(8080), "all");
  assert.ok(!helper.audit().some(({ event }) => event === "connect"));
});

test("root binds a low port directly, and the helper hears nothing of it", async (t) => {
  const helper = await start_helper(t);
  const app = App.start(t, USERS.root, serve, { port: 80 });
  assert.equal((await app.said("listening")).via, "direct");
  assert.equal(await get(80), "all");
  assert.ok(!helper.audit().some(({ event }) => event === "connect"));
});

test("a host name is looked up for the helper", async (t) => {
  await start_helper(t);
  const app = App.start(t, USERS.alice, serve, { port: 80, host: "localhost" });
  const { via, address } = await app.said("listening");
  assert.equal(via, "helper");
  assert.ok(["127.0.0.1", "::1"].includes(address.address), address.address);
});

test("the helper's socket has the backlog and the family that were asked for", async (t) => {
  await start_helper(t);
  const program = async ({ lowport, node, say }: Context<null>) => {
    await lowport.listen(node.http.createServer(), { port: 80, backlog: 7, ipv6Only: true });
    await lowport.listen(node.http.createServer(), { port: 80, host: "0.0.0.0" });
    say("listening", node.child_process.spawnSync("ss", ["-ltnH", "sport = :80"], { encoding: "utf8" }).stdout);
  };
  const table: string = await App.start(t, USERS.alice, program).said("listening");
  const sockets = table.trimEnd().split("\n");
  assert.deepEqual(sockets.map((line) => line.split(/\s+/).slice(2, 4).join(" ")).toSorted(), ["511 0.0.0.0:80", "7 [::]:80"]);
});
