/**
 * Promise: where lowport/register gets no port, the app has the error that it would have without it, as the event that it
 * would have, and the message also says why and what to do: denied, out of quota, taken, no helper, no right to talk to it, a
 * helper that hangs or dies, no addon. And a helper that comes back is found again.
 */
import assert from "node:assert/strict";
import { cpSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { enter_box, REPOSITORY, USERS, type User } from "./box.js";
import { all_leases, freeze, get, no_leases } from "./client-app.js";
import { start_helper, until, WEB_RULE } from "./helper-process.js";
import { PlainApp, type PlainOptions, PRELOAD } from "./plain-app.js";

await enter_box(import.meta.url);

/** Listens on what it is told, line by line: protocol, port, and address if any. */
const LISTENER = `import dgram from "node:dgram";
  import http from "node:http";
  import { createInterface } from "node:readline";
  const show = ({ message, code, errno, syscall, address, port, name }) => ({ message, code, errno, syscall, address, port, name });
  const report = (what) => what
    .on("listening", () => console.log("listening", JSON.stringify(what.address())))
    .on("error", (error) => console.log("error", JSON.stringify(show(error))));
  createInterface({ input: process.stdin }).on("line", (line) => {
    const [protocol, port, address] = line.split(" ");
    if (protocol === "udp") report(dgram.createSocket("udp4")).bind(Number(port), address);
    else if (protocol === "tcp") report(http.createServer((_, response) => response.end("served"))).listen(Number(port), address);
  });
  console.log("ready");`;

interface Refused {
  readonly message: string;
  readonly code: string;
}

/** The error of a bind with the preload; it must be that without it, but for what the message says besides. */
async function refusal(t: TestContext, wanted: string, user: User = USERS.alice, options: PlainOptions = {}): Promise<string> {
  const errors: Refused[] = [];
  for (const flags of [[], options.flags ?? PRELOAD]) {
    const app = PlainApp.start(t, user, LISTENER, { ...options, flags });
    app.tell(wanted);
    errors.push(await app.told("error"));
    await app.kill();
  }
  const [without, preloaded] = errors as [Refused, Refused];
  assert.equal(without.code, "EACCES");
  assert.deepEqual({ ...preloaded, message: "" }, { ...without, message: "" });
  assert.ok(preloaded.message.startsWith(`${without.message}; `), preloaded.message);
  return preloaded.message.slice(without.message.length + 2);
}

for (const wanted of ["tcp 25", "tcp 25 127.0.0.1", "udp 53", "udp 53 127.0.0.1"])
  test(`denied: ${wanted}`, async (t) => {
    const helper = await start_helper(t);
    const [protocol, port] = wanted.split(" ");
    const reason = await refusal(t, wanted);
    assert.match(reason, new RegExp(`^${protocol} \\S+:${port} is not allowed to uid ${USERS.alice.uid} .*"web"`));
    const denied = helper.audit().filter(({ method, decision }) => method === "bind" && decision === "deny");
    assert.equal(denied.length, 1, "it was asked once");
    await no_leases();
  });

test("an error that nobody listens for ends the app, and is printed with its reason", async (t) => {
  await start_helper(t);
  for (const source of [
    `import net from "node:net"; net.createServer().listen(25);`,
    `import dgram from "node:dgram"; dgram.createSocket("udp4").bind(53);`,
  ]) {
    const { code, stderr } = await PlainApp.start(t, USERS.alice, source).ended();
    assert.equal(code, 1);
    assert.match(stderr, /^Error: (listen|bind) EACCES.*; \w+ \S+ is not allowed to uid 2001/m);
    assert.match(stderr, /^ +at /m);
  }
});

test("no helper: how to start one", async (t) => {
  const env = { LOWPORT_SOCKET: "/run/nowhere.sock" };
  for (const wanted of ["tcp 80", "udp 80"])
    assert.match(
      await refusal(t, wanted, USERS.alice, { env }),
      /there is no lowport helper at \/run\/nowhere\.sock\. .*lowportd/,
    );
});

test("a user who may not talk to the helper: which group to join", async (t) => {
  await start_helper(t);
  assert.match(await refusal(t, "tcp 80", USERS.mallory), /user mallory must be in group "lowport"/);
});

test("no addon: how to build it; what the kernel grants works", async (t) => {
  const copy = "/run/without-addon";
  for (const part of ["client", "shared"])
    cpSync(join(REPOSITORY, "dist", part), join(copy, part), { recursive: true, filter: (path) => !path.endsWith(".node") });
  symlinkSync(join(REPOSITORY, "node_modules"), join(copy, "node_modules"));
  writeFileSync(join(copy, "package.json"), '{ "type": "module" }');
  const flags = ["--import", join(copy, "client/register.js")];
  assert.match(
    await refusal(t, "tcp 80", USERS.alice, { flags }),
    /its addon cannot be loaded [\s\S]* Build it with `npm run build`/,
  );
  const app = PlainApp.start(t, USERS.alice, LISTENER, { flags });
  app.tell("tcp 8080");
  assert.equal((await app.told("listening")).port, 8080);
});

test("the rule's and the user's limit; what is served goes on", async (t) => {
  await start_helper(t, { rules: [{ ...WEB_RULE, maxSockets: 1 }] });
  const app = PlainApp.start(t, USERS.alice, LISTENER);
  app.tell("tcp 80");
  await app.said("listening");
  assert.match(await refusal(t, "tcp 443"), /maxSockets|at most 1|limit/);
  assert.equal(await get(80), "served");
});

test("taken by another user: EADDRINUSE, as from the kernel", async (t) => {
  await start_helper(t);
  const carol = PlainApp.start(t, USERS.carol, LISTENER);
  carol.tell("tcp 80");
  carol.tell("udp 80");
  await carol.said("listening", 2);
  const alice = PlainApp.start(t, USERS.alice, LISTENER);
  alice.tell("tcp 80");
  const { message, errno, code, syscall, address, port } = await alice.told("error");
  assert.deepEqual(
    { errno, code, syscall, address, port },
    { errno: -98, code: "EADDRINUSE", syscall: "listen", address: "::", port: 80 },
  );
  assert.match(message, /^listen EADDRINUSE: address already in use :::80; tcp \[::\]:80 is taken/);
  alice.tell("udp 80");
  const other = await alice.told("error", 2);
  assert.deepEqual(
    [other.errno, other.code, other.syscall, other.address, other.port],
    [-98, "EADDRINUSE", "bind", "0.0.0.0", 80],
  );
  assert.match(other.message, /^bind EADDRINUSE 0\.0\.0\.0:80; udp 0\.0\.0\.0:80 is taken/);
});

test("a helper that hangs: the app has its error after five seconds, lives on, and is served later", async (t) => {
  const helper = await start_helper(t);
  const app = PlainApp.start(t, USERS.alice, LISTENER);
  await app.said("ready");
  await freeze(helper);
  app.tell("tcp 80");
  const { code, message } = await app.told("error");
  assert.equal(code, "EACCES");
  assert.match(
    message,
    /^listen EACCES: permission denied 0\.0\.0\.0:80; the lowport helper at \S+ did not answer within 5000 ms$/,
  );
  helper.process.kill("SIGCONT");
  await helper.recorded("the grant that nobody waits for", ({ method, decision }) => method === "bind" && decision === "allow");
  await no_leases();
  app.tell("tcp 80");
  await app.said("listening");
  assert.equal(await get(80), "served");
});

test("a helper that dies while it is asked: the app has its error at once, and is served by the next", async (t) => {
  const helper = await start_helper(t);
  const app = PlainApp.start(t, USERS.alice, LISTENER);
  await app.said("ready");
  await freeze(helper);
  app.tell("tcp 80");
  await until(
    "it has connected",
    () => readFileSync("/proc/net/unix", "utf8").match(/ \/run\/lowport\/lowport\.sock(\.new)?$/gm)?.length === 2,
  );
  await helper.stop("SIGKILL");
  const { code, message } = await app.told("error");
  assert.equal(code, "EACCES");
  assert.match(message, /permission denied 0\.0\.0\.0:80; the lowport helper/);
  await start_helper(t, { keep: true });
  app.tell("tcp 80");
  await app.said("listening");
  assert.equal(await get(80), "served");
});

test("a restart of the helper: what is served goes on, and the next one is asked for more", async (t) => {
  const helper = await start_helper(t);
  const app = PlainApp.start(t, USERS.alice, LISTENER);
  app.tell("tcp 80");
  await app.said("listening");
  await helper.stop("SIGKILL");
  assert.equal(await get(80), "served");
  app.tell("tcp 443");
  assert.match((await app.told("error")).message, /the lowport helper at \S+ is not running/);
  await start_helper(t, { keep: true });
  app.tell("tcp 443");
  await app.said("listening", 2);
  for (const port of [80, 443]) assert.equal(await get(port), "served");
});

for (const [name, value, says] of [
  ["LOWPORT_HOLD", "soon", /LOWPORT_HOLD is "soon", and must be seconds from 0 to 3600/],
  ["LOWPORT_HOLD", "3601", /LOWPORT_HOLD is "3601"/],
  ["LOWPORT_HOLD", "61", /maxHoldSeconds|at most 60/],
  ["LOWPORT_LABEL", "no blanks, please", /label/],
] as const)
  test(`${name}="${value}" is said to be wrong`, async (t) => {
    await start_helper(t);
    assert.match(await refusal(t, "tcp 80", USERS.alice, { env: { [name]: value } }), says);
  });

test("LOWPORT_SOCKET, LOWPORT_HOLD and LOWPORT_LABEL are taken from the environment", async (t) => {
  await start_helper(t);
  const env = { LOWPORT_SOCKET: "/run/lowport/lowport.sock", LOWPORT_HOLD: "30", LOWPORT_LABEL: "web-1" };
  const app = PlainApp.start(t, USERS.alice, LISTENER, { env });
  app.tell("tcp 80");
  await app.said("listening");
  const [lease] = await all_leases();
  assert.deepEqual([lease?.hold, lease?.label], [30, "web-1"]);
});
