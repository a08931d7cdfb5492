/**
 * Promise: a cluster's worker is served also where its primary is not (it runs without the preload), and leaves the cluster as
 * ever; where the helper refuses, each worker has the error that it would have, with the reason. Two programs do not get one
 * port by it.
 */
import assert from "node:assert/strict";
import process from "node:process";
import { type TestContext, test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { all_leases, get, no_leases } from "./client-app.js";
import { start_helper, until, WEB_RULE } from "./helper-process.js";
import { PlainApp } from "./plain-app.js";

await enter_box(import.meta.url);

interface Options {
  readonly policy: "SCHED_RR" | "SCHED_NONE";
  readonly listen: string;
  /** The workers alone have the preload. */
  readonly workers_only?: boolean;
}

const clustered = ({ policy, listen, workers_only = false }: Options) => `import cluster from "node:cluster";
  import dgram from "node:dgram";
  import http from "node:http";
  cluster.schedulingPolicy = cluster.${policy};
  if (cluster.isPrimary && ${workers_only}) cluster.setupPrimary({ execArgv: ["--import", "lowport/register"] });
  if (cluster.isPrimary) {
    for (let i = 0; i < 3; i++) cluster.fork();
    cluster.on("listening", (worker, address) => console.log("listening", worker.process.pid));
    cluster.on("exit", (worker, code) => console.log("exit", code));
    cluster.on("message", (worker, error) => console.log("error", JSON.stringify(error)));
    process.stdin.once("data", () => cluster.disconnect(() => process.stdin.destroy()));
  } else {
    const show = ({ message, code, errno, syscall, port }) => ({ message, code, errno, syscall, port });
    const report = (error) => process.send(show(error));
    const server = http.createServer((_, response) => response.end(String(process.pid)));
    const socket = dgram.createSocket("udp4");
    socket.unref();
    ${listen}
  }`;

for (const policy of ["SCHED_RR", "SCHED_NONE"] as const)
  test(`the workers alone have the preload (${policy}): they share a socket, and leave in peace`, async (t) => {
    await start_helper(t);
    const app = PlainApp.start(t, USERS.alice, clustered({ policy, listen: "server.listen(80);", workers_only: true }), {
      flags: [],
    });
    await app.said("listening", 3);
    const [lease, ...others] = await all_leases();
    assert.deepEqual([lease?.uid, others], [USERS.alice.uid, []]);
    const served_by = new Set<string>();
    await until("all have served", async () => {
      for (const body of await Promise.all(Array.from({ length: 50 }, () => get(80)))) served_by.add(body);
      return served_by.size === 3;
    });
    app.tell("disconnect");
    assert.deepEqual(await app.ended(), { code: 0, signal: null, stderr: "" });
    assert.deepEqual(
      app.lines.filter((line) => line.startsWith("exit")),
      ["exit 0", "exit 0", "exit 0"],
    );
    await no_leases();
  });

for (const policy of ["SCHED_RR", "SCHED_NONE"] as const)
  for (const [what, listen, syscall, port] of [
    ["tcp", `server.on("error", report).listen(25);`, "bind", 25],
    ["tcp with an address", `server.on("error", report).listen(25, "127.0.0.1");`, "bind", 25],
    ["udp", `socket.on("error", report).bind(53);`, "bind", 53],
  ] as const)
    test(`denied: ${what} (${policy}): every worker has its error with the reason`, async (t) => {
      await start_helper(t);
      const app = PlainApp.start(t, USERS.alice, clustered({ policy, listen }));
      for (let nth = 1; nth <= 3; nth++) {
        const { message, ...error } = await app.told("error", nth);
        assert.deepEqual(error, { code: "EACCES", errno: -13, syscall, port });
        assert.match(message, /is not allowed to uid 2001/);
      }
      app.tell("disconnect");
      assert.deepEqual(await app.ended(), { code: 0, signal: null, stderr: "" });
      await no_leases();
    });

test("out of quota: every worker has its error with the reason", async (t) => {
  await start_helper(t, { rules: [{ ...WEB_RULE, maxSockets: 1 }] });
  const first = PlainApp.start(
    t,
    USERS.alice,
    `import net from "node:net"; net.createServer().listen(443, () => console.log("listening"));`,
  );
  await first.said("listening");
  const listen = `server.on("error", report).listen(80);`;
  const app = PlainApp.start(t, USERS.alice, clustered({ policy: "SCHED_RR", listen }));
  for (let nth = 1; nth <= 3; nth++) {
    const { code, message } = await app.told("error", nth);
    assert.equal(code, "EACCES");
    assert.match(message, /maxSockets|at most 1|limit/);
  }
});

test("exclusive in a worker: the first has the port, the others EADDRINUSE", async (t) => {
  await start_helper(t);
  const listen = `server.on("error", report).listen({ port: 80, exclusive: true }, () => process.send({ code: "none" }));`;
  const app = PlainApp.start(t, USERS.alice, clustered({ policy: "SCHED_RR", listen }));
  const codes = await Promise.all([1, 2, 3].map(async (nth) => (await app.told("error", nth)).code as string));
  assert.deepEqual(codes.toSorted(), ["EADDRINUSE", "EADDRINUSE", "none"]);
});

test("two programs of one user do not share a port", async (t) => {
  await start_helper(t);
  const source = `import net from "node:net";
    net.createServer().on("error", ({ code }) => console.log("error", code)).listen(80, () => console.log("listening"));`;
  const first = PlainApp.start(t, USERS.alice, source);
  await first.said("listening");
  const second = PlainApp.start(t, USERS.alice, source);
  assert.equal(await second.said("error"), "EADDRINUSE");
});

const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);

/** reusePort is an option from Node 22.12 on. */
async function reuse_port(t: TestContext): Promise<void> {
  await start_helper(t);
  // A port that no test before has left connections on: the helper refuses to begin such a group beside them.
  const listen = "server.listen({ port: 801, reusePort: true });";
  const app = PlainApp.start(t, USERS.alice, clustered({ policy: "SCHED_RR", listen }));
  await until("three sockets", async () => (await all_leases()).length === 3);
  assert.ok(Number(await get(801)) > 0);
  await app.kill();
  const strict = await start_helper(t, { rules: [{ ...WEB_RULE, reusePort: false }] });
  const other = PlainApp.start(
    t,
    USERS.alice,
    `import net from "node:net";
    net.createServer().on("error", (error) => console.log("error", error.message)).listen({ port: 802, reusePort: true });`,
  );
  assert.match(await other.said("error"), /^listen EACCES: permission denied .*reusePort/);
  assert.ok(strict.alive);
}

if (major > 22 || (major === 22 && minor >= 12))
  test("reusePort: each worker has a socket of its own, if the rule allows it", reuse_port);
