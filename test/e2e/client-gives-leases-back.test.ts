/**
 * Promise: a lease that is given back ends, also where the helper refuses at first because the user asks too often, and where
 * the connection breaks before it has answered.
 */
import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { App, all_leases, no_leases } from "./client-app.js";
import { connects, exec, Program, run } from "./exec-program.js";
import { type AuditLine, start_helper } from "./helper-process.js";
import { PlainApp } from "./plain-app.js";

await enter_box(import.meta.url);

const { alice } = USERS;
/** A connection and a bind take both; then there is one in a second. */
const two = { config: { limits: { requestBurst: 2, requestsPerSecond: 1 } } };
const refused_release = (line: AuditLine) => line.method === "release" && line.code === "EAGAIN";
const released = (line: AuditLine) => line.method === "release" && line.decision === "allow";
const python = (code: string) => exec("--", "/usr/bin/python3", "-c", `import errno, os, socket, sys\n${code}`);

test("the library: a server that is closed while its user asks too often", async (t) => {
  const helper = await start_helper(t, two);
  const app = App.start(t, alice, async ({ lowport, node, say, heard }) => {
    const server = node.http.createServer();
    await lowport.listen(server, { port: 80 });
    say("listening");
    server.close();
    await heard("end");
  });
  await app.said("listening");
  await helper.recorded("a release that was refused", refused_release);
  await helper.recorded("a release", released);
  assert.equal(await connects(80), false);
  app.tell("end");
  await app.ends_well();
});

test("lowport/register: the same", async (t) => {
  const helper = await start_helper(t, two);
  const app = PlainApp.start(
    t,
    alice,
    `import http from "node:http";
    const server = http.createServer().listen(80, () => console.log("listening"));
    process.stdin.on("data", () => server.close(() => console.log("closed")));`,
  );
  await app.said("listening");
  app.tell("close");
  await app.said("closed");
  await helper.recorded("a release that was refused", refused_release);
  await helper.recorded("a release", released);
  assert.equal(await connects(80), false);
});

test("lowport exec: the same, while another program of the user's lives", async (t) => {
  const helper = await start_helper(t, two);
  const program = new Program(
    t,
    alice,
    python(`s = socket.socket(); s.bind(("", 80)); s.listen(); print("bound", flush=True)
s.close(); sys.stdin.readline(); s = socket.socket(); s.bind(("", 80)); print("again", flush=True); sys.stdin.readline()`),
  );
  await program.printed(/bound/);
  await helper.recorded("a release that was refused", refused_release);
  await helper.recorded("a release", released);
  assert.equal(await connects(80), false);
  program.process.stdin?.write("\n");
  await program.printed(/again/);
});

test("lowport exec: a loop that binds and closes faster than its user may ask gets the port each time", async (t) => {
  const helper = await start_helper(t, { config: { limits: { requestBurst: 10, requestsPerSecond: 50 } } });
  const { stdout, stderr } = await run(
    t,
    alice,
    python(`import collections
count = collections.Counter()
for _ in range(60):
    s = socket.socket()
    try: s.bind(("127.0.0.1", 80)); count["ok"] += 1
    except OSError as e: count[errno.errorcode[e.errno]] += 1
    s.close()
print(dict(count))`),
  );
  assert.equal(stdout, "{'ok': 60}\n", stderr);
  assert.ok(helper.audit().some(refused_release));
  await no_leases();
});

test("lowport exec: what another program has is EADDRINUSE also where the helper cannot be asked whose it is", async (t) => {
  const helper = await start_helper(t, { config: { limits: { requestBurst: 4, requestsPerSecond: 10 } } });
  const bind = `s = socket.socket()
try: s.bind(("127.0.0.1", 80)); print("bound", flush=True); sys.stdin.readline()
except OSError as e: print(errno.errorcode[e.errno])`;
  const first = new Program(t, alice, python(bind));
  await first.printed(/bound/);
  const { stdout, stderr } = await run(t, alice, python(bind));
  assert.equal(stdout, "EADDRINUSE\n", stderr);
  assert.ok(helper.audit().some(({ method, code }) => method === "list" && code === "EAGAIN"));
});

test("a lease that another process of the user has resumed meanwhile is that one's own", async (t) => {
  const helper = await start_helper(t);
  const GO = "/run/go";
  rmSync(GO, { force: true });
  const hold = { protocol: "tcp", port: 80, hold: 60 } as const;
  const app = App.start(
    t,
    alice,
    async ({ lowport, node, say, heard, arg }) => {
      const client = await lowport.connect();
      client.on("reconnect", () => say("reconnect"));
      const socket = await client.bind(arg.hold);
      say("bound");
      client.on("disconnect", () => {
        void socket.release();
        say("disconnect");
        while (!node.fs.existsSync(arg.go)); // it does not come to connecting again until then
      });
      client.call("list", { long: "x".repeat(100_000) }).catch(() => undefined);
      await heard("end");
    },
    { hold, go: GO },
  );
  await app.said("disconnect");
  const next = App.start(
    t,
    alice,
    async ({ lowport, say, heard, arg }) => {
      say("bound", (await lowport.bind(arg.hold)).resumed);
      await heard("end");
    },
    { hold },
  );
  assert.equal(await next.said("bound"), true);
  writeFileSync(GO, "");
  await app.said("reconnect");
  assert.equal((await all_leases())[0]?.state, "active");
  assert.ok(helper.audit().every(({ method }) => method !== "release"));
});

test("a connection that breaks before the answer: the lease is held then, and ends when there is a connection again", async (t) => {
  await start_helper(t);
  const app = App.start(t, alice, async ({ lowport, say, heard }) => {
    const client = await lowport.connect();
    client.on("reconnect", () => say("reconnect"));
    const socket = await client.bind({ protocol: "tcp", port: 80, hold: 60 });
    say("bound");
    await heard("go");
    // A line that the helper finds too long is the end of the connection: what is sent after it is not read.
    client.call("list", { long: "x".repeat(100_000) }).catch(({ code }) => say("broken", code));
    await new Promise(setImmediate);
    await socket.release();
    await heard("end");
  });
  await app.said("bound");
  assert.equal((await all_leases())[0]?.hold, 60);
  app.tell("go");
  await app.said("broken");
  await app.said("reconnect");
  await no_leases();
  app.tell("end");
});
