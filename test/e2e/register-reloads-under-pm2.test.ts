/**
 * Promise: an app in pm2's cluster mode gets its privileged port by `--node-args "--import lowport/register"`: its workers
 * share one socket, and `pm2 reload` under load loses no connection.
 */
import assert from "node:assert/strict";
import { chownSync, mkdirSync, rmSync } from "node:fs";
import http from "node:http";
import { join } from "node:path";
import process from "node:process";
import { type TestContext, test } from "node:test";
import { enter_box, REPOSITORY, USERS } from "./box.js";
import { all_leases, no_leases } from "./client-app.js";
import { start_helper, until } from "./helper-process.js";
import { PlainApp, write_app } from "./plain-app.js";

await enter_box(import.meta.url);
const WORKERS = 4;
const HOME = "/run/pm2";
const PM2 = join(REPOSITORY, "node_modules/pm2/bin/pm2");

/** As pm2's page on graceful reload has it. */
const source = `const http = require("http");
  const server = http.createServer((req, res) => {
    setTimeout(() => res.end("served " + process.pid), 5);
  });
  server.listen(80);
  process.on("SIGINT", () => {
    server.close(() => process.exit(0));
  });`;

interface Process {
  readonly pid: number;
  readonly pm2_env: { readonly status: string };
}

/** pm2 as alice, who has a folder for it; it says nothing to the outside, and could not. */
function pm2_of(t: TestContext, env: Record<string, string> = {}) {
  rmSync(HOME, { recursive: true, force: true });
  mkdirSync(HOME);
  chownSync(HOME, USERS.alice.uid, USERS.alice.gid);
  const pm2 = async (...args: string[]): Promise<string> => {
    const own = { HOME, PM2_HOME: HOME, PM2_DISABLE_VERSION_CHECK: "true" };
    const app = PlainApp.run(t, USERS.alice, [process.execPath, PM2, ...args], { ...own, ...env }, "ignore");
    const { code, stderr } = await app.ended();
    assert.equal(code, 0, `pm2 ${args.join(" ")}: ${app.lines.join("\n")}${stderr}`);
    return app.lines.join("\n");
  };
  t.after(() => pm2("kill"));
  const pids = async () => {
    const list = JSON.parse((await pm2("jlist")).replace(/^[^[]*/, "")) as Process[];
    return list.filter(({ pm2_env }) => pm2_env.status === "online").map(({ pid }) => String(pid));
  };
  return { pm2, pids };
}

const SERVED = "served ";

/** A GET that must be answered in time: a connection that is lost can be one that hangs. */
function ask(): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = http.get({ host: "127.0.0.1", port: 80, agent: false, timeout: 10_000 }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (part: string) => (body += part));
      response.on("end", () => (body.startsWith(SERVED) ? resolve(body.slice(SERVED.length)) : reject(new Error(body))));
      response.on("error", reject);
    });
    request.on("timeout", () => request.destroy(new Error("not answered")));
    request.on("error", reject);
  });
}

/** pm2 does not wait for its workers to listen when it starts them. */
const it_serves = () =>
  until("it serves", () =>
    ask().then(
      () => true,
      () => false,
    ),
  );

/** Clients that ask again and again until they are stopped. */
function make_load(clients: number) {
  const served_by = new Map<string, number>();
  const errors: string[] = [];
  const stopping = new AbortController();
  const client = async () => {
    while (!stopping.signal.aborted)
      await ask().then(
        (pid) => served_by.set(pid, (served_by.get(pid) ?? 0) + 1),
        (error: Error) => errors.push(error.message),
      );
  };
  const all = Promise.all(Array.from({ length: clients }, client));
  const stop = async () => {
    stopping.abort();
    await all;
  };
  return { served_by, errors, stop };
}

test("pm2 reload under load loses no connection", async (t) => {
  await start_helper(t);
  const { pm2, pids } = pm2_of(t);
  await pm2(
    "start",
    write_app(source, "cjs"),
    "--name",
    "web",
    "-i",
    String(WORKERS),
    "--node-args",
    "--import lowport/register",
  );
  await it_serves();
  const load = make_load(8);
  t.after(load.stop);
  await until("all have served", () => load.served_by.size >= WORKERS);
  for (let round = 1; round <= 3; round++) {
    const before = await pids();
    assert.equal(before.length, WORKERS);
    await pm2("reload", "web");
    const after = await pids();
    assert.equal(after.filter((pid) => before.includes(pid)).length, 0, "all are new");
    await until("a new one has served", () => after.some((pid) => load.served_by.has(pid)));
    assert.equal((await all_leases()).length, 1, "one socket, which they share");
  }
  await load.stop();
  assert.deepEqual(load.errors, []);
  const served = [...load.served_by.values()].reduce((sum, count) => sum + count, 0);
  t.diagnostic(`${served} requests, served by ${load.served_by.size} processes`);
  await pm2("delete", "web");
  await no_leases();
});

// Not under load: here pm2's daemon accepts, and what is on its way to a worker that exits is lost, on any port and also
// without lowport.
test("pm2 whose daemon has the preload binds for its workers, and reloads", async (t) => {
  await start_helper(t);
  const { pm2, pids } = pm2_of(t, { NODE_OPTIONS: "--import=lowport/register" });
  await pm2("start", write_app(source, "cjs"), "--name", "web", "-i", String(WORKERS));
  await it_serves();
  const before = await pids();
  await pm2("reload", "web");
  assert.ok(!before.includes(await ask()));
  assert.equal((await all_leases()).length, 1);
  await pm2("delete", "web");
  await no_leases();
});
