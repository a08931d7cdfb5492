/**
 * Promise: `node --import lowport/register app.js` (or --require) serves an app's privileged ports without a change to it:
 * net, tls, http, https, http2 and dgram, as an ES module and as CommonJS, in worker threads and child processes.
 */
import assert from "node:assert/strict";
import net from "node:net";
import { test } from "node:test";
import tls from "node:tls";
import { ask_http2, ask_https, ask_raw, ask_udp } from "./asking.js";
import { enter_box, USERS } from "./box.js";
import { all_leases, get, no_leases } from "./client-app.js";
import { CERTIFICATE, KEY } from "./client-certificate.js";
import { start_helper, verify_chain } from "./helper-process.js";
import { PlainApp } from "./plain-app.js";

await enter_box(import.meta.url);

/** How an app gets at a module of Node's, and is preloaded. */
const STYLES = {
  "an ES module, --import": { type: "mjs", flag: "--import", load: (name: string) => `import * as ${name} from "node:${name}";` },
  "CommonJS, --require": {
    type: "cjs",
    flag: "--require",
    load: (name: string) => `const ${name} = require("${name}");`,
  },
  "CommonJS, --import": { type: "cjs", flag: "--import", load: (name: string) => `const ${name} = require("node:${name}");` },
  "an ES module, --require": {
    type: "mjs",
    flag: "--require",
    load: (name: string) => `import ${name} from "${name}";`,
  },
} as const;

const KEYS = `const keys = { key: ${JSON.stringify(KEY)}, cert: ${JSON.stringify(CERTIFICATE)} };`;
const ANSWER = `(_, response) => response.end("served")`;
const ECHO = `(socket) => socket.resume().end("served")`;

const KINDS = {
  net: { make: `net.createServer(${ECHO})`, ask: () => ask_raw(net.connect(80, "127.0.0.1")) },
  tls: {
    make: `tls.createServer(keys, ${ECHO})`,
    ask: () => ask_raw(tls.connect({ port: 80, host: "127.0.0.1", ca: CERTIFICATE })),
  },
  http: { make: `http.createServer(${ANSWER})`, ask: () => get(80) },
  https: { make: `https.createServer(keys, ${ANSWER})`, ask: () => ask_https(80) },
  http2: { make: `http2.createServer(${ANSWER})`, ask: () => ask_http2("http://127.0.0.1:80") },
  "http2 secure": { make: `http2.createSecureServer(keys, ${ANSWER})`, ask: () => ask_http2("https://127.0.0.1:80") },
};

for (const [style, { type, flag, load }] of Object.entries(STYLES)) {
  for (const [kind, { make, ask }] of Object.entries(KINDS))
    test(`${kind} on port 80 (${style})`, async (t) => {
      await start_helper(t);
      const source = `${load(kind.split(" ")[0] as string)} ${KEYS}
        const server = ${make};
        server.listen(80, () => console.log("listening", JSON.stringify(server.address())));
        process.stdin.once("data", () => server.close(() => process.stdin.destroy()));`;
      const app = PlainApp.start(t, USERS.alice, source, { type, flags: [flag, "lowport/register"] });
      assert.deepEqual(await app.told("listening"), { address: "::", family: "IPv6", port: 80 });
      assert.equal(await ask(), "served");
      const [lease, ...others] = await all_leases();
      assert.deepEqual([lease?.uid, lease?.port, lease?.state, others], [USERS.alice.uid, 80, "active", []]);
      app.tell("close");
      assert.deepEqual(await app.ended(), { code: 0, signal: null, stderr: "" });
      await no_leases();
      verify_chain();
    });

  for (const family of ["udp4", "udp6"])
    test(`dgram ${family} on port 800 (${style})`, async (t) => {
      await start_helper(t);
      const source = `${load("dgram")}
        const socket = dgram.createSocket("${family}");
        socket.on("message", (message, { port, address }) => socket.send("served " + message, port, address));
        socket.bind(800, () => console.log("listening", JSON.stringify(socket.address())));
        process.stdin.once("data", () => socket.close(() => process.stdin.destroy()));`;
      const app = PlainApp.start(t, USERS.alice, source, { type, flags: [flag, "lowport/register"] });
      const { port, address } = await app.told("listening");
      assert.deepEqual([port, address], [800, family === "udp4" ? "0.0.0.0" : "::"]);
      assert.equal(String(await ask_udp(800, family === "udp4" ? "127.0.0.1" : "::1")), "served hello");
      assert.equal((await all_leases()).length, 1);
      app.tell("close");
      assert.deepEqual(await app.ended(), { code: 0, signal: null, stderr: "" });
      await no_leases();
    });
}

const SERVE = `http.createServer((_, response) => response.end("served")).listen(80, () => console.log("listening", process.pid));`;

for (const flag of ["--import", "--require"])
  test(`a worker thread has the preload too (${flag})`, async (t) => {
    await start_helper(t);
    const source = `import http from "node:http";
      import { isMainThread, Worker } from "node:worker_threads";
      if (isMainThread) {
        const worker = new Worker(new URL(import.meta.url));
        process.stdin.once("data", async () => {
          await worker.terminate();
          console.log("terminated");
        });
      } else ${SERVE}`;
    const app = PlainApp.start(t, USERS.alice, source, { flags: [flag, "lowport/register"] });
    await app.said("listening");
    assert.equal(await get(80), "served");
    app.tell("terminate");
    await app.said("terminated");
    await no_leases();
  });

test("a forked child has the preload too, and a spawned one by NODE_OPTIONS", async (t) => {
  await start_helper(t);
  const source = `import { fork, spawn } from "node:child_process";
    import http from "node:http";
    import process from "node:process";
    const [, path, role] = process.argv;
    if (role === "child") ${SERVE}
    else if (role === "fork") fork(path, ["child"]);
    else spawn(process.execPath, [path, "child"], { stdio: "inherit" });`;
  const forking = PlainApp.start(t, USERS.alice, source, { args: ["fork"] });
  const child = Number(await forking.said("listening"));
  assert.notEqual(child, forking.pid);
  assert.equal(await get(80), "served");
  process.kill(child);
  await no_leases();
  const env = { NODE_OPTIONS: "--import=lowport/register" };
  const spawning = PlainApp.start(t, USERS.alice, source, { flags: [], env, args: ["spawn"] });
  await spawning.said("listening");
  assert.equal(await get(80), "served");
});
