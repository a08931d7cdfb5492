/**
 * Promise: what is refused rejects with the code that Node's own listen would give, and says what to do; nothing of it is
 * an unhandled rejection, an uncaught exception or an "error" event.
 */
import assert from "node:assert/strict";
import { appendFileSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { type TestContext, test } from "node:test";
import { enter_box, USERS, type User } from "./box.js";
import { App } from "./client-app.js";
import type { Context } from "./client-app-main.js";
import { start_helper, WEB_RULE } from "./helper-process.js";

await enter_box(import.meta.url);
const SOCKET = "/run/lowport/lowport.sock";

interface Asked {
  how: "listen" | "bind" | "connect" | "bindUdp";
  port: number;
  host?: string;
}

/** Tries once, and goes on living for a while to show what comes later. */
const program = async ({ lowport, node, say, describe_error, arg }: Context<Asked>) => {
  const { how, ...where } = arg;
  const emitted: string[] = [];
  const server = node.http.createServer().on("error", () => emitted.push("error"));
  const udp = node.dgram.createSocket("udp4").on("error", () => emitted.push("error"));
  try {
    if (how === "listen") await lowport.listen(server, where);
    if (how === "bindUdp") await lowport.bindUdp(udp, where);
    if (how === "bind") await lowport.bind({ protocol: "tcp", port: where.port });
    if (how === "connect") await lowport.connect();
    say("no error");
  } catch (error) {
    say("failed", { ...describe_error(error), emitted, listening: server.listening });
  }
  udp.close();
  server.close();
};

/** Has it fail, and gives the error; the app must end well. */
async function failure(t: TestContext, user: User, asked: Asked) {
  const app = App.start(t, user, program, asked);
  const error = await app.said("failed");
  await app.ends_well();
  assert.deepEqual(error.emitted, []);
  assert.equal(error.listening, false);
  return error;
}

test("denied: EACCES with the helper's reason, and where", async (t) => {
  await start_helper(t);
  const { code, errno, syscall, address, port, message, lowport } = await failure(t, USERS.alice, {
    how: "listen",
    port: 25,
  });
  assert.deepEqual(
    { code, errno, syscall, port, lowport, known: ["0.0.0.0", "::"].includes(address) },
    { code: "EACCES", errno: -13, syscall: "listen", port: 25, lowport: true, known: true },
  );
  assert.match(
    message,
    /^listen EACCES: permission denied 0\.0\.0\.0:25; tcp \[::\]:25 is not allowed to uid 2001 .*"web", lacks 25 in its ports/,
  );
});

/** What Node says of each host, and what listen says, which does not have Node make its error first. */
const both = async ({ lowport, node, say, describe_error, arg: hosts }: Context<(string | null)[]>) => {
  for (const host of hosts) {
    const where = { port: 25, ...(host === null ? {} : { host }) };
    const server = node.http.createServer();
    const [own] = await node.events.once(server.listen(where), "error");
    const ours = await lowport.listen(node.http.createServer(), where).catch((error: unknown) => error);
    say("refused", { own: describe_error(own), ours: describe_error(ours) });
  }
};

test("a refusal stands in Node's own words, whatever the host", async (t) => {
  await start_helper(t);
  const hosts = [null, "", "::", "0.0.0.0", "127.0.0.1", "::1", "0:0:0:0:0:0:0:1", "localhost"];
  const app = App.start(t, USERS.alice, both, hosts);
  for (const [i, host] of hosts.entries()) {
    const { own, ours } = await app.said("refused", i + 1);
    for (const name of ["code", "errno", "syscall", "address", "port"]) assert.equal(ours[name], own[name], `${name} of ${host}`);
    assert.ok(ours.message.startsWith(`${own.message}; tcp `), `${host}: ${ours.message}`);
  }
  await app.ends_well();
});

test("denied over UDP", async (t) => {
  await start_helper(t);
  const { code, syscall, address, port, message } = await failure(t, USERS.alice, { how: "bindUdp", port: 53 });
  assert.deepEqual({ code, syscall, address, port }, { code: "EACCES", syscall: "bind", address: "0.0.0.0", port: 53 });
  assert.match(message, /udp 0\.0\.0\.0:53 is not allowed to uid 2001/);
});

test("taken by another program: EADDRINUSE, from the kernel and through the helper", async (t) => {
  await start_helper(t);
  for (const port of [80, 8080]) {
    const server = net.createServer().listen(port);
    t.after(() => server.close());
  }
  const high = await failure(t, USERS.alice, { how: "listen", port: 8080 });
  assert.deepEqual({ code: high.code, port: high.port }, { code: "EADDRINUSE", port: 8080 });
  const low = await failure(t, USERS.alice, { how: "listen", port: 80 });
  assert.deepEqual({ code: low.code, syscall: low.syscall, port: low.port }, { code: "EADDRINUSE", syscall: "listen", port: 80 });
});

test("not an address of this host: EADDRNOTAVAIL", async (t) => {
  await start_helper(t);
  assert.equal((await failure(t, USERS.alice, { how: "listen", port: 80, host: "192.0.2.1" })).code, "EADDRNOTAVAIL");
});

test("a limit is reached: EDQUOT, which and how much", async (t) => {
  await start_helper(t, { rules: [{ ...WEB_RULE, maxSockets: 1 }] });
  const holder = App.start(t, USERS.alice, async ({ lowport, node, say }) => {
    await lowport.listen(node.http.createServer(), { port: 443 });
    say("listening");
  });
  await holder.said("listening");
  for (const how of ["listen", "bind"] as const) {
    const { code, limit, max, errno } = await failure(t, USERS.alice, { how, port: 80 });
    assert.deepEqual({ code, limit, max, errno }, { code: "EDQUOT", limit: "maxSockets", max: 1, errno: -122 });
  }
});

for (const [what, code, says] of [
  ["is not there", "ENOENT", [/there is no lowport helper at \/run\/lowport\/lowport\.sock/, /sudo lowportd install/]],
  ["has left a stale socket", "ECONNREFUSED", [/\/run\/lowport\/lowport\.sock is not running/, /lowportd/]],
] as const)
  test(`the helper ${what}: ${code} from connect, EACCES from listen, both say what to do`, async (t) => {
    const helper = await start_helper(t);
    await helper.stop("SIGKILL");
    if (code === "ENOENT") rmSync(SOCKET);
    for (const how of ["connect", "bind", "listen", "bindUdp"] as const) {
      const error = await failure(t, USERS.alice, { how, port: 80 });
      const direct = how === "connect" || how === "bind";
      assert.equal(error.code, direct ? code : "EACCES", how);
      for (const text of says) assert.match(error.message, text);
      if (!direct) assert.equal(error.port, 80);
    }
  });

test("not permitted to connect: EACCES with the path, the group and the new login", async (t) => {
  await start_helper(t);
  for (const how of ["connect", "bind", "listen", "bindUdp"] as const) {
    const error = await failure(t, USERS.mallory, { how, port: 80 });
    assert.equal(error.code, "EACCES");
    for (const text of [SOCKET, 'user mallory must be in group "lowport"', "usermod -aG lowport mallory", "new login"])
      assert.ok(error.message.includes(text), error.message);
  }
});

test("in the group, but not in this session: log in again", async (t) => {
  await start_helper(t);
  const groups = readFileSync("/etc/group", "utf8");
  t.after(() => writeFileSync("/etc/group", groups));
  writeFileSync("/etc/group", groups.replace(/^lowport:x:990:.*$/m, "lowport:x:990:bob,mallory"));
  const { code, message } = await failure(t, USERS.mallory, { how: "connect", port: 80 });
  assert.equal(code, "EACCES");
  assert.match(message, /user mallory is in group "lowport", but this session began before that: log in again/);
  assert.doesNotMatch(message, /usermod/);
});

test("a user without a name is told by its number, a group without one too", async (t) => {
  await start_helper(t, { config: { socket: { group: 4711 } } });
  appendFileSync("/etc/group", "");
  const nobody = { name: "nobody", uid: 31_337, gid: 31_337, groups: [] };
  const { code, message } = await failure(t, nobody, { how: "connect", port: 80 });
  assert.equal(code, "EACCES");
  assert.match(message, /uid 31337 must be in group "4711"/);
});
