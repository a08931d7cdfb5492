/**
 * Promise: many calls at once each get the socket they asked for; a program that the app starts inherits none of them; an
 * app without room for more descriptors gets a clear error, and nothing is lost or left behind.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { App, all_leases, get, no_leases } from "./client-app.js";
import { start_helper, until } from "./helper-process.js";

await enter_box(import.meta.url);

test("20 bind() calls at once each get their own socket, also where some are refused", async (t) => {
  await start_helper(t);
  const app = App.start(t, USERS.alice, async ({ lowport, node, say }) => {
    const ports = Array.from({ length: 20 }, (_, i) => 800 + i);
    const asked = ports.flatMap((port) => [port, 25].slice(0, (port % 3) + 1)); // 25 is never allowed
    const results = await Promise.allSettled(asked.map((port) => lowport.bind({ protocol: "tcp", port })));
    const found: [number, number | string][] = [];
    for (const [i, result] of results.entries()) {
      if (result.status === "rejected") found.push([asked[i] as number, result.reason.code]);
      else {
        const server = node.net.createServer().listen({ fd: result.value.fd });
        await node.events.once(server, "listening");
        found.push([asked[i] as number, (server.address() as import("node:net").AddressInfo).port]);
        server.close();
      }
    }
    say("found", found);
  });
  const found: [number, number | string][] = await app.said("found");
  assert.equal(found.length, 33);
  for (const [asked, got] of found) assert.equal(got, asked === 25 ? "EACCES" : asked);
  await app.ends_well();
  await no_leases();
});

test("what the app starts does not inherit the sockets, nor the connection to the helper", async (t) => {
  await start_helper(t);
  const app = App.start(t, USERS.alice, async ({ lowport, node, say }) => {
    await lowport.bind({ protocol: "tcp", port: 80 });
    await lowport.listen(node.http.createServer(), { port: 443 });
    await lowport.bindUdp(node.dgram.createSocket("udp4"), { port: 80 });
    const own = node.fs.readdirSync("/proc/self/fd").map((fd) => {
      try {
        return node.fs.readlinkSync(`/proc/self/fd/${fd}`);
      } catch {
        return "";
      }
    });
    const { stdout } = node.child_process.spawnSync("ls", ["-l", "/proc/self/fd"], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    say("shown", { own: own.filter((name) => name.startsWith("socket:")), stdout });
    node.process.exit();
  });
  const { own, stdout } = await app.said("shown");
  assert.ok(own.length >= 4, own.join(" "));
  const inherited = (stdout as string).split("\n").filter((line) => /-> socket:/.test(line));
  assert.ok(inherited.length <= 1, stdout); // its stdout is a socket pair of Node's
  await app.ended();
});

test("an app at its RLIMIT_NOFILE gets EMFILE, keeps what it has, and leaves nothing behind", async (t) => {
  await start_helper(t);
  const app = App.start(
    t,
    USERS.alice,
    async ({ lowport, node, say, heard, describe_error }) => {
      const server = node.http.createServer((_, response) => response.end("still here"));
      await lowport.listen(server, { port: 80 });
      const { lease } = await lowport.bind({ protocol: "tcp", port: 443 });
      const filled: number[] = [];
      const fill = () => {
        try {
          for (;;) filled.push(node.fs.openSync("/dev/null", "r"));
        } catch {
          // Full.
        }
      };
      fill();
      const failed = await lowport.bind({ protocol: "tcp", port: 801 }).catch((error: Error) => error);
      const listened = await lowport.listen(node.http.createServer(), { port: 802 }).catch((error: Error) => error);
      fill();
      const connected = await lowport.connect().catch((error: Error) => error);
      for (const fd of filled) node.fs.closeSync(fd);
      say("failed", [failed, listened, connected].map(describe_error));
      await heard("again");
      const again = await lowport.bind({ protocol: "tcp", port: 801 });
      say("again", { lease, port: again.port, listening: server.listening });
    },
    null,
    { wrapper: ["prlimit", "--nofile=64"] },
  );
  const [failed, listened, connected] = await app.said("failed");
  assert.equal(failed.code, "EMFILE");
  assert.match(failed.message, /RLIMIT_NOFILE/);
  assert.equal(listened.code, "EMFILE");
  assert.equal(connected.code, "EMFILE");
  assert.match(connected.message, /no descriptor left/);
  await until("the socket that could not be received is given up", async () =>
    (await all_leases()).every(({ port }) => port !== 801),
  );
  app.tell("again");
  assert.equal((await app.said("again")).port, 801);
  assert.equal(await until("it serves", () => get(80)), "still here");
});

test("binding and releasing over and over leaves no descriptor on either side", async (t) => {
  const helper = await start_helper(t, { config: { limits: { requestsPerSecond: 10_000, requestBurst: 10_000 } } });
  const app = App.start(t, USERS.alice, async ({ lowport, node, say, heard }) => {
    const round = async () => {
      const socket = await lowport.bind({ protocol: "tcp", port: 80 });
      node.fs.closeSync(socket.fd);
      await socket.release();
    };
    await round();
    say("warm");
    await heard("go");
    for (let i = 0; i < 300; i++) await round();
    say("done");
    await heard("end");
  });
  await app.said("warm");
  await no_leases();
  const [mine, theirs] = [app.fd_count(), helper.fd_count()];
  app.tell("go");
  await app.said("done");
  await no_leases();
  assert.equal(app.fd_count(), mine);
  await until("the helper has no more descriptors than before", () => helper.fd_count() <= theirs);
});
