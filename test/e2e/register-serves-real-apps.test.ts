/**
 * Promise: apps on express, fastify, koa and hono, a node:cluster app and a DNS server get their privileged ports by
 * `node --import lowport/register` alone. Each app is written as its framework's own first page has it.
 */
import assert from "node:assert/strict";
import dgram from "node:dgram";
import dns from "node:dns/promises";
import { test } from "node:test";
import { ask_https } from "./asking.js";
import { enter_box, USERS } from "./box.js";
import { all_leases, get, no_leases } from "./client-app.js";
import { CERTIFICATE, KEY } from "./client-certificate.js";
import { start_helper, until, WEB_RULE } from "./helper-process.js";
import { PlainApp } from "./plain-app.js";

await enter_box(import.meta.url);
const keys = `{ key: ${JSON.stringify(KEY)}, cert: ${JSON.stringify(CERTIFICATE)} }`;

const APPS: Record<string, { type: "mjs" | "cjs"; source: string; port: 80 | 443; says: string }> = {
  express: {
    type: "cjs",
    port: 80,
    says: "Hello from Express!",
    source: `const express = require("express");
      const app = express();
      const port = 80;
      app.get("/", (req, res) => {
        res.send("Hello from Express!");
      });
      app.listen(port, () => {
        console.log("listening");
      });`,
  },
  fastify: {
    type: "mjs",
    port: 80,
    says: '{"hello":"world"}',
    source: `import Fastify from "fastify";
      const fastify = Fastify({ logger: false });
      fastify.get("/", async function handler(request, reply) {
        return { hello: "world" };
      });
      try {
        await fastify.listen({ port: 80 });
        console.log("listening");
      } catch (err) {
        fastify.log.error(err);
        process.exit(1);
      }`,
  },
  koa: {
    type: "cjs",
    port: 80,
    says: "Hello Koa",
    source: `const Koa = require("koa");
      const app = new Koa();
      app.use(async (ctx) => {
        ctx.body = "Hello Koa";
      });
      app.listen(80, "127.0.0.1", () => console.log("listening"));`,
  },
  hono: {
    type: "mjs",
    port: 80,
    says: "Hello Node.js!",
    source: `import { serve } from "@hono/node-server";
      import { Hono } from "hono";
      const app = new Hono();
      app.get("/", (c) => c.text("Hello Node.js!"));
      serve({ fetch: app.fetch, port: 80 }, (info) => console.log("listening", info.port));`,
  },
  "express over https": {
    type: "mjs",
    port: 443,
    says: "Hello from Express!",
    source: `import { createServer } from "node:https";
      import express from "express";
      const app = express();
      app.get("/", (req, res) => {
        res.send("Hello from Express!");
      });
      createServer(${keys}, app).listen(443, "0.0.0.0", () => console.log("listening"));`,
  },
};

for (const [name, { type, source, port, says }] of Object.entries(APPS))
  test(name, async (t) => {
    await start_helper(t);
    const app = PlainApp.start(t, USERS.alice, source, { type });
    await app.said("listening");
    assert.equal(await (port === 443 ? ask_https(443) : get(80)), says);
    const [lease, ...others] = await all_leases();
    assert.deepEqual([lease?.uid, lease?.port, others], [USERS.alice.uid, port, []]);
    assert.equal((await app.kill("SIGTERM")).stderr, "");
    await no_leases();
  });

/** As the documentation of node:cluster has it. */
const clustered = (policy: string) => `import cluster from "node:cluster";
  import http from "node:http";
  import process from "node:process";
  cluster.schedulingPolicy = cluster.${policy};
  if (cluster.isPrimary) {
    for (let i = 0; i < 4; i++) cluster.fork();
    cluster.on("listening", (worker, { port }) => console.log("listening", worker.process.pid, port));
    cluster.on("exit", (worker, code) => console.log("exit", worker.process.pid, code));
    process.stdin.once("data", () => cluster.disconnect(() => process.stdin.destroy()));
  } else {
    http.createServer((req, res) => {
      res.writeHead(200);
      res.end(String(process.pid));
    }).listen(80);
  }`;

for (const policy of ["SCHED_RR", "SCHED_NONE"])
  test(`a node:cluster app with four workers, ${policy}: all of them serve, and the primary alone asks`, async (t) => {
    await start_helper(t, { rules: [{ ...WEB_RULE, share: false }] });
    const app = PlainApp.start(t, USERS.alice, clustered(policy));
    const said = await Promise.all([1, 2, 3, 4].map((nth) => app.said("listening", nth)));
    const pids = new Set(said.map((line) => line.split(" ")[0]));
    assert.ok(said.every((line) => line.endsWith(" 80")));
    const served_by = new Set<string>();
    const ask = async () => {
      for (const body of await Promise.all(Array.from({ length: 50 }, () => get(80)))) served_by.add(body);
    };
    await until("all of them have served", async () => {
      await ask();
      return served_by.size === 4;
    });
    assert.deepEqual(served_by, pids);
    const leases = await all_leases();
    assert.equal(leases.length, 1);

    const [victim] = [...served_by].map(Number);
    process.kill(victim as number, "SIGKILL");
    assert.equal(await app.said("exit"), `${victim} null`);
    served_by.clear();
    await until("the others have served", async () => {
      await ask();
      return served_by.size === 3;
    });
    app.tell("disconnect");
    assert.deepEqual(await app.ended(), { code: 0, signal: null, stderr: "" });
    await no_leases();
  });

/** Answers each question for an address with 192.0.2.53. */
const dns_server = `import dgram from "node:dgram";
  const server = dgram.createSocket("udp4");
  server.on("message", (query, from) => {
    let end = 12;
    while (query[end] !== 0) end += query[end] + 1;
    const question = query.subarray(12, end + 5);
    const head = Buffer.from(query.subarray(0, 12));
    head.writeUInt16BE(0x8180, 2); // a response, recursion available
    head.writeUInt16BE(1, 6); // one answer
    head.writeUInt32BE(0, 8);
    const answer = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 53]);
    server.send(Buffer.concat([head, question, answer]), from.port, from.address);
  });
  server.on("error", (error) => {
    console.error(error.message);
    server.close();
  });
  server.on("listening", () => console.log("listening", JSON.stringify(server.address())));
  server.bind(53, "127.0.0.1");`;

test("a DNS server on UDP port 53", async (t) => {
  await start_helper(t, { rules: [{ ...WEB_RULE, protocols: ["udp"], ports: [53] }] });
  const app = PlainApp.start(t, USERS.alice, dns_server);
  assert.deepEqual(await app.told("listening"), { address: "127.0.0.1", family: "IPv4", port: 53 });
  const resolver = new dns.Resolver();
  resolver.setServers(["127.0.0.1"]);
  assert.deepEqual(await resolver.resolve4("lowport.example"), ["192.0.2.53"]);
  await app.kill();
  await no_leases();
});

/** Workers that bind the same UDP port; the primary binds for all of them. */
const clustered_udp = `import cluster from "node:cluster";
  import dgram from "node:dgram";
  if (cluster.isPrimary) {
    for (let i = 0; i < 3; i++) cluster.fork();
    cluster.on("listening", (worker, { port }) => console.log("listening", worker.process.pid, port));
    process.stdin.once("data", () => cluster.disconnect(() => process.stdin.destroy()));
  } else {
    const socket = dgram.createSocket("udp4");
    socket.on("message", (message, { port, address }) => socket.send(String(process.pid), port, address));
    socket.bind(800);
  }`;

test("a node:cluster app on a UDP port: the workers share one socket", async (t) => {
  await start_helper(t);
  const app = PlainApp.start(t, USERS.alice, clustered_udp);
  const said = await Promise.all([1, 2, 3].map((nth) => app.said("listening", nth)));
  const pids = new Set(said.map((line) => line.split(" ")[0]));
  const socket = dgram.createSocket("udp4");
  const served_by = new Set<string>();
  socket.on("message", (message) => served_by.add(String(message)));
  await until("one has served", () => {
    socket.send("hello", 800, "127.0.0.1");
    return served_by.size > 0;
  });
  socket.close();
  for (const pid of served_by) assert.ok(pids.has(pid));
  assert.equal((await all_leases()).length, 1);
  app.tell("disconnect");
  assert.deepEqual(await app.ended(), { code: 0, signal: null, stderr: "" });
  await no_leases();
});
