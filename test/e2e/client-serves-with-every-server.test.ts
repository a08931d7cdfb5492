/**
 * Promise: `await listen(server, { port })` serves a low port through the helper with net, tls, http, https and http2; the
 * server is as after its own `listen`; closing it gives the port back, and then nothing keeps the process.
 */
import assert from "node:assert/strict";
import net from "node:net";
import { test } from "node:test";
import tls from "node:tls";
import { ask_http2, ask_https, ask_raw } from "./asking.js";
import { enter_box, USERS } from "./box.js";
import { App, all_leases, get, no_leases } from "./client-app.js";
import { CERTIFICATE, KEY } from "./client-certificate.js";
import { start_helper, verify_chain } from "./helper-process.js";

await enter_box(import.meta.url);

const kinds = {
  net: () => ask_raw(net.connect(80, "127.0.0.1")),
  tls: () => ask_raw(tls.connect({ port: 80, host: "127.0.0.1", ca: CERTIFICATE })),
  http: () => get(80),
  https: () => ask_https(80),
  http2: () => ask_http2("http://127.0.0.1:80"),
  "http2 secure": () => ask_http2("https://127.0.0.1:80"),
};

for (const [kind, ask] of Object.entries(kinds))
  test(`${kind} on port 80`, async (t) => {
    await start_helper(t);
    const app = App.start(
      t,
      USERS.alice,
      async ({ lowport, node, say, heard, arg }) => {
        const { key, cert } = arg;
        const text = `${arg.kind} answers`;
        const answer = (_: unknown, response: { end(text: string): unknown }) => void response.end(text);
        const make: Record<string, () => import("node:net").Server> = {
          net: () => node.net.createServer((socket) => socket.resume().end(text)),
          tls: () => node.tls.createServer({ key, cert }, (socket) => socket.resume().end(text)),
          http: () => node.http.createServer(answer),
          https: () => node.https.createServer({ key, cert }, answer),
          http2: () => node.http2.createServer(answer),
          "http2 secure": () => node.http2.createSecureServer({ key, cert }, answer),
        };
        const server = make[arg.kind]?.() as import("node:net").Server;
        const emitted: string[] = [];
        for (const event of ["listening", "error"]) server.on(event, () => emitted.push(event));
        const { via, lease } = await lowport.listen(server, { port: 80, label: "web" });
        say("listening", { via, lease, address: server.address(), listening: server.listening, emitted });
        await heard("close");
        await new Promise((closed) => server.close(closed));
        say("closed", { emitted });
      },
      { kind, key: KEY, cert: CERTIFICATE },
    );
    const { via, lease, address, listening, emitted } = await app.said("listening");
    assert.equal(via, "helper");
    assert.equal(listening, true);
    assert.deepEqual(address, { address: "::", family: "IPv6", port: 80 });
    assert.deepEqual(emitted, ["listening"]);
    const { protocol, port, resumed } = lease;
    assert.deepEqual(
      { protocol, port, resumed, address: lease.address },
      { protocol: "tcp", port: 80, resumed: false, address: "::" },
    );
    assert.equal(await ask(), `${kind} answers`);
    const [entry] = await all_leases();
    assert.deepEqual(
      { lease: entry?.lease, uid: entry?.uid, state: entry?.state, label: entry?.label },
      { lease: lease.lease, uid: USERS.alice.uid, state: "active", label: "web" },
    );

    app.tell("close");
    assert.deepEqual(await app.said("closed"), { emitted: ["listening"] });
    await app.ends_well();
    await no_leases();
    verify_chain();
  });

test("a port that was given back is another user's to have, while its first user lives on", async (t) => {
  await start_helper(t);
  const program = async ({ lowport, node, say, heard }: import("./client-app-main.js").Context<null>) => {
    const server = node.http.createServer((_, response) => response.end(String(node.process.getuid?.())));
    await lowport.listen(server, { port: 80 });
    say("listening");
    await heard("close");
    server.close();
    setInterval(() => undefined, 1000);
    await lowport.connect();
    say("lives on");
  };
  const first = App.start(t, USERS.alice, program);
  await first.said("listening");
  assert.equal(await get(80), String(USERS.alice.uid));
  first.tell("close");
  await first.said("lives on");
  await no_leases();
  const second = App.start(t, USERS.carol, program);
  await second.said("listening");
  assert.equal(await get(80), String(USERS.carol.uid));
});
