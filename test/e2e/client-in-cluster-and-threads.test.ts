/**
 * Promise: `await listen(server, { port: 80 })` is all that a cluster worker or a worker thread needs: the workers share one
 * socket, and one that dies takes nothing from the others.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { App, all_leases, freeze, get, no_leases } from "./client-app.js";
import type { Context } from "./client-app-main.js";
import { start_helper, until } from "./helper-process.js";

await enter_box(import.meta.url);
const WORKERS = 3;

/** The primary and each of its workers, which run the same program. */
const clustered = async ({ lowport, node, say, heard, arg }: Context<{ policy: "rr" | "none"; workers: number }>) => {
  const { cluster } = node;
  if (!cluster.isWorker) {
    cluster.schedulingPolicy = arg.policy === "rr" ? 2 : 1;
    for (let i = 0; i < arg.workers; i++) cluster.fork();
    cluster.on("exit", ({ process: { pid } }) => say("exit", pid));
    await heard("end");
    for (const worker of Object.values(cluster.workers ?? {})) worker?.kill();
    return;
  }
  const server = node.http.createServer((_, response) => response.end(String(node.process.pid)));
  const { via, lease } = await lowport.listen(server, { port: 80 });
  say("listening", { via, pid: node.process.pid, lease: lease?.lease, address: server.address() });
};

for (const policy of ["rr", "none"] as const)
  test(`three workers of an unprivileged cluster serve port 80 (scheduling policy ${policy})`, async (t) => {
    await start_helper(t);
    const app = App.start(t, USERS.alice, clustered, { policy, workers: WORKERS });
    const workers = await Promise.all([1, 2, 3].map((nth) => app.said("listening", nth)));
    for (const { via, address } of workers) {
      assert.equal(via, "helper");
      assert.deepEqual(address, { address: "::", family: "IPv6", port: 80 });
    }
    assert.equal(new Set(workers.map(({ lease }) => lease)).size, 1, "they share one lease");
    const pids = new Set(workers.map(({ pid }) => String(pid)));
    const served_by = new Set<string>();
    const ask = async () => {
      const bodies = await Promise.all(Array.from({ length: 50 }, () => get(80)));
      for (const body of bodies) served_by.add(body);
    };
    await until("all of them have served", async () => {
      await ask();
      return served_by.size === WORKERS;
    });
    assert.deepEqual(served_by, pids);

    const [{ pid: victim }] = workers as [{ pid: number }];
    process.kill(victim, "SIGKILL");
    assert.equal(await app.said("exit"), victim);
    served_by.clear();
    await until("both others have served", async () => {
      await ask();
      return served_by.size === WORKERS - 1;
    });
    assert.ok(!served_by.has(String(victim)));
    assert.equal((await all_leases()).length, 1);
    app.tell("end");
    await app.ends_well();
    await no_leases();
  });

/** A main thread with one worker that listens; `main` is the file that both run. */
const threaded = async ({ lowport, node, say, heard, main, arg }: Context<{ port: number }>) => {
  const { isMainThread, Worker } = node.worker_threads;
  if (!isMainThread) {
    const server = node.http.createServer((_, response) => response.end("a thread"));
    const { via } = await lowport.listen(server, { port: arg.port });
    say("listening", via);
    return;
  }
  const worker = new Worker(main, { argv: node.process.argv.slice(2) });
  worker.on("error", (error) => say("failed", error.message));
  await heard("terminate");
  say("terminated", await worker.terminate());
  await heard("more");
  const server = node.http.createServer((_, response) => response.end("the main thread"));
  const { via } = await lowport.listen(server, { port: arg.port });
  say("main", via);
  await heard("end");
  server.close();
};

for (const [port, via] of [
  [80, "helper"],
  [8080, "direct"],
] as const)
  test(`listen() works in a worker thread (${via}), and terminating that does no harm`, async (t) => {
    await start_helper(t);
    const app = App.start(t, USERS.alice, threaded, { port });
    assert.equal(await app.said("listening"), via);
    assert.equal(await get(port), "a thread");
    app.tell("terminate");
    assert.equal(await app.said("terminated"), 1);
    await no_leases();
    app.tell("more");
    assert.equal(await app.said("main"), via);
    assert.equal(await get(port), "the main thread");
    app.tell("end");
    await app.ends_well();
    await no_leases();
  });

test("a thread that is terminated in the middle of a call does no harm", async (t) => {
  const helper = await start_helper(t);
  await freeze(helper);
  const app = App.start(t, USERS.alice, async ({ lowport, node, say, heard, main }) => {
    if (!node.worker_threads.isMainThread) {
      const asked = lowport.bind({ protocol: "tcp", port: 443 });
      say("asking");
      await asked;
    }
    const worker = new node.worker_threads.Worker(main, { argv: node.process.argv.slice(2) });
    await heard("terminate");
    await worker.terminate();
    say("terminated");
  });
  await app.said("asking");
  app.tell("terminate");
  await app.said("terminated");
  await app.ends_well();
  helper.process.kill("SIGCONT");
  await no_leases();
});
