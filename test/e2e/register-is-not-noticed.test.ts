/**
 * Promise: lowport/register is not noticed. What an app sees of a port that the helper gave it is what root sees without
 * lowport: results, events and their order, addresses, errors. And what the kernel itself grants or refuses for another reason
 * than EACCES is not touched. So each piece of app runs twice, and must print the same.
 */
import assert from "node:assert/strict";
import { cpSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { enter_box, REPOSITORY, USERS } from "./box.js";
import { all_leases } from "./client-app.js";
import { start_helper } from "./helper-process.js";
import { PlainApp, PRELOAD } from "./plain-app.js";

await enter_box(import.meta.url);

const HEAD = `import cluster from "node:cluster";
  import dgram from "node:dgram";
  import { once } from "node:events";
  import http from "node:http";
  import http2 from "node:http2";
  import net from "node:net";
  const PORT = Number(process.argv[2]);
  const say = (...what) => console.log(JSON.stringify(what));
  const show = ({ name, code, errno, syscall, address, port }) => ({ name, code, errno, syscall, address, port });
  const watch = (what, name = "") => {
    for (const event of ["listening", "error", "close"])
      what.on(event, (error) => say(name + event, error instanceof Error ? show(error) : error));
    return what;
  };
  const attempt = (call) => {
    try {
      return call();
    } catch (error) {
      say("throws", error.code);
    }
  };
  const later = () => new Promise((done) => setImmediate(() => setImmediate(done)));
  const reach = async (host) => {
    const socket = net.connect(PORT, host);
    const reached = await new Promise((done) => socket.on("connect", () => done(true)).on("error", ({ code }) => done(code)));
    socket.destroy();
    say("reach", host, reached);
  };
`;

const TCP: Record<string, string> = {
  "address() and listening are there at once; the callback comes once, and after nextTick": `
    const server = watch(net.createServer());
    say(server.listen(PORT, () => say("callback")) === server, server.listening, server.address());
    process.nextTick(() => say("tick"));
    Promise.resolve().then(() => say("microtask"));
    setImmediate(() => {
      say("immediate");
      server.close(() => say("closed"));
    });`,
  "listen, close, and listen again": `
    const server = watch(net.createServer());
    for (let i = 0; i < 3; i++) {
      server.listen(PORT, () => say("callback", i));
      await once(server, "listening");
      server.close();
      say(server.listening, server.address());
      await once(server, "close");
    }`,
  "closed before it is said to listen": `
    const server = watch(http.createServer());
    server.listen(PORT, "127.0.0.1", () => say("callback"));
    server.close((error) => say("closed", error?.code));
    await later();
    say(server.listening);
    const other = watch(net.createServer());
    other.listen(PORT, () => say("callback")).close((error) => say("closed", error?.code));`,
  "listening twice throws": `
    const server = watch(net.createServer()).listen(PORT);
    attempt(() => server.listen(PORT));
    server.close();`,
  "bad arguments throw": `
    const server = watch(net.createServer());
    for (const bad of [[-1], [65536], [{}], [{ port: "x" }], [{ host: "127.0.0.1" }], [true], [{ fd: "3" }]]) attempt(() => server.listen(...bad));
    say(server.listening);`,
  "hosts: none, ::, 0.0.0.0, 127.0.0.1, ::1, a name": `
    for (const host of [undefined, "::", "0.0.0.0", "127.0.0.1", "::1", "localhost", ""]) {
      const server = watch(net.createServer()).listen({ port: PORT, host });
      await once(server, "listening");
      say(host, server.address(), server._connectionKey);
      for (const from of ["127.0.0.1", "::1"]) await reach(from);
      server.close();
      await once(server, "close");
    }`,
  ipv6Only: `
    const server = watch(net.createServer()).listen({ port: PORT, host: "::", ipv6Only: true });
    await once(server, "listening");
    for (const from of ["127.0.0.1", "::1"]) await reach(from);
    server.close();`,
  "all forms of its arguments": `
    const callback = () => say("callback");
    for (const form of [
      [PORT, callback],
      [String(PORT), callback],
      [PORT, "127.0.0.1", callback],
      [PORT, 5, callback],
      [PORT, "127.0.0.1", 5, callback],
      [{ port: PORT, backlog: 5 }, callback],
      [{ port: PORT, exclusive: true }, callback],
      [{ port: PORT, host: "127.0.0.1", backlog: 0 }, callback],
      [{ port: String(PORT) }],
    ]) {
      const server = watch(net.createServer()).listen(...form);
      await once(server, "listening");
      say(server.address());
      await new Promise((done) => server.close(done));
    }`,
  "an AbortSignal closes it; one that is aborted already too": `
    const controller = new AbortController();
    const server = watch(net.createServer()).listen({ port: PORT, signal: controller.signal });
    await once(server, "listening");
    controller.abort();
    await once(server, "close");
    watch(net.createServer()).listen({ port: PORT, signal: AbortSignal.abort() });
    await later();`,
  "unref before and after lets the process end": `
    watch(net.createServer()).unref().listen(PORT, "127.0.0.1");
    const other = watch(net.createServer()).listen(PORT, "127.0.0.2");
    await once(other, "listening");
    other.unref();
    say("end");`,
  "a port that is taken": `
    const first = watch(net.createServer(), "first ").listen(PORT);
    await once(first, "listening");
    for (const host of [undefined, "::", "0.0.0.0", "127.0.0.1", "::1"]) {
      const second = watch(net.createServer(), "second ").listen({ port: PORT, host });
      say(second.listening);
      await once(second, "error").catch(() => undefined);
      say(second.listening, second.address());
    }
    first.close();
    await once(first, "close");
    const third = watch(http.createServer(), "third ").listen(PORT);
    await once(third, "listening");
    third.close();`,
  "a server that failed listens later": `
    const first = net.createServer().listen(PORT);
    await once(first, "listening");
    const second = watch(net.createServer());
    second.listen(PORT, () => say("callback"));
    await once(second, "error").catch(() => undefined);
    first.close();
    await once(first, "close");
    second.listen(PORT);
    await once(second, "listening");
    second.close();`,
  "an address that is not this host's, and a host name that is none": `
    watch(net.createServer()).listen(PORT, "192.0.2.1");
    await later();
    watch(net.createServer()).listen(PORT, "no.such.host.invalid");`,
  "connections, getConnections, maxConnections and the remote address": `
    const server = watch(net.createServer((socket) => {
      say(socket.remoteAddress, socket.localPort === PORT, socket.server === server);
      socket.end("hello");
    })).listen(PORT, "127.0.0.1");
    await once(server, "listening");
    const socket = net.connect(PORT, "127.0.0.1").setEncoding("utf8");
    socket.on("data", (text) => say(text));
    await once(socket, "connect");
    say(await new Promise((done) => server.getConnections((error, count) => done(count >= 0))));
    await once(socket, "close");
    server.close();`,
  "other ways to listen: a handle, a descriptor, a path": `
    const first = watch(net.createServer()).listen(PORT);
    await once(first, "listening");
    const second = watch(net.createServer()).listen(first);
    attempt(() => second.listen({ fd: 0 }));
    first.close();
    const third = watch(net.createServer()).listen({ fd: 0 });
    await once(third, "error").catch(() => undefined);
    const fourth = watch(net.createServer()).listen("\\0lowport-" + process.pid);
    await once(fourth, "listening");
    fourth.close();
    second.close();`,
  "http2 and its timeouts": `
    const server = watch(http2.createServer()).listen(PORT);
    await once(server, "listening");
    say(server.address());
    server.close();`,
  "the hook on async resources and diagnostics": `
    const { default: channels } = await import("node:diagnostics_channel");
    for (const name of ["asyncStart", "asyncEnd", "error"])
      channels.subscribe("tracing:net.server.listen:" + name, ({ error }) => say(name, error?.code));
    const server = watch(net.createServer()).listen(PORT);
    await once(server, "listening");
    const other = watch(net.createServer()).listen(PORT);
    await once(other, "error").catch(() => undefined);
    server.close();`,
};

const UDP: Record<string, string> = {
  "all forms of its arguments; the callback comes once": `
    const callback = () => say("callback");
    for (const form of [
      [PORT, callback],
      [PORT, "127.0.0.1", callback],
      [{ port: PORT }, callback],
      [{ port: PORT, address: "127.0.0.1", exclusive: true }, callback],
      [PORT],
      [PORT, "localhost"],
    ]) {
      const socket = watch(dgram.createSocket("udp4"));
      say(socket.bind(...form) === socket);
      attempt(() => socket.bind(PORT));
      await once(socket, "listening");
      say(socket.address(), socket.listenerCount("listening"), socket.listenerCount("error"));
      await new Promise((done) => socket.close(done));
    }`,
  "udp6, ipv6Only, buffer sizes and options": `
    const socket = watch(dgram.createSocket({ type: "udp6", ipv6Only: true, recvBufferSize: 9000 }));
    socket.bind(PORT);
    await once(socket, "listening");
    socket.setTTL(3);
    socket.setBroadcast(true);
    say(socket.address(), socket.getRecvBufferSize() >= 9000);
    const other = watch(dgram.createSocket("udp4"), "other ").bind(PORT);
    await once(other, "listening");
    other.close();
    socket.connect(PORT, "::1", () => {
      say(socket.remoteAddress());
      socket.close();
    });`,
  "a port that is taken": `
    const first = watch(dgram.createSocket("udp4"), "first ").bind(PORT);
    await once(first, "listening");
    const second = watch(dgram.createSocket("udp4"), "second ").bind(PORT, () => say("never"));
    await once(second, "error").catch(() => undefined);
    first.close();
    await once(first, "close");
    second.bind(PORT);
    await once(second, "listening");
    second.close();`,
  "closed before it is bound, and an AbortSignal": `
    const socket = watch(dgram.createSocket("udp4"));
    socket.bind(PORT, () => say("callback"));
    socket.close();
    await later();
    const controller = new AbortController();
    const other = watch(dgram.createSocket({ type: "udp4", signal: controller.signal })).bind(PORT);
    await once(other, "listening");
    controller.abort();
    await once(other, "close");`,
  "unref lets the process end": `
    watch(dgram.createSocket("udp4")).unref().bind(PORT);`,
  messages: `
    const server = watch(dgram.createSocket("udp4"));
    server.on("message", (message, { address }) => server.send(address + " said " + message, client.address().port, address));
    server.bind(PORT);
    await once(server, "listening");
    const client = dgram.createSocket("udp4");
    client.send("hello", PORT, "127.0.0.1");
    const [answer] = await once(client, "message");
    say(String(answer));
    client.close();
    server.close();`,
};

/** What a piece of app prints, as root without lowport and as alice with it. */
async function compare(t: TestContext, piece: string, port: number): Promise<void> {
  const runs = [];
  for (const [user, preload] of [
    [USERS.root, []],
    [USERS.alice, PRELOAD],
  ] as const) {
    const app = PlainApp.start(t, user, `${HEAD}${piece}`, { args: [String(port)], flags: preload });
    const { code, stderr } = await app.ended();
    runs.push({ code, stderr, lines: app.lines });
  }
  assert.ok((runs[0]?.lines.length ?? 0) > 0, "it prints something");
  assert.deepEqual(runs[1], runs[0]);
}

for (const [port, who] of [
  [80, "the helper gives"],
  [8080, "the kernel gives"],
] as const)
  test(`a port that ${who}`, async (t) => {
    const helper = await start_helper(t);
    for (const [name, piece] of Object.entries(TCP)) await t.test(`TCP: ${name}`, (one) => compare(one, piece, port));
    for (const [name, piece] of Object.entries(UDP)) await t.test(`UDP: ${name}`, (one) => compare(one, piece, port));
    const asked = helper.audit().some(({ peer }) => peer?.uid === USERS.alice.uid);
    assert.equal(asked, port === 80, "the helper is asked for what the kernel refused, and for nothing else");
  });

test("what is no server's bind is not the helper's: a connection from a low port", async (t) => {
  const helper = await start_helper(t);
  const piece = `
    const server = net.createServer((socket) => socket.end()).listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address();
    const socket = net.connect({ host: "127.0.0.1", port, localPort: PORT });
    socket.on("error", (error) => say(error.message.replace(port, "PORT"), error.code, error.syscall));
    socket.on("close", () => server.close());`;
  const runs = [];
  for (const flags of [[], PRELOAD]) {
    const app = PlainApp.start(t, USERS.alice, `${HEAD}${piece}`, { args: ["80"], flags });
    runs.push([await app.ended(), app.lines]);
  }
  assert.match(JSON.stringify(runs[0]), /EACCES/);
  assert.deepEqual(runs[1], runs[0]);
  assert.deepEqual(
    helper.audit().filter(({ peer }) => peer?.uid === USERS.alice.uid),
    [],
  );
});

test("it does no harm to be preloaded twice, also from two copies of the package", async (t) => {
  const helper = await start_helper(t);
  const copy = "/run/second-copy";
  for (const part of ["client", "shared"]) cpSync(join(REPOSITORY, "dist", part), join(copy, part), { recursive: true });
  symlinkSync(join(REPOSITORY, "node_modules"), join(copy, "node_modules"));
  writeFileSync(join(copy, "package.json"), '{ "type": "module" }');
  const app = PlainApp.start(
    t,
    USERS.alice,
    `${HEAD} watch(net.createServer()).unref().listen(PORT); watch(net.createServer()).listen(25);`,
    {
      args: ["80"],
      flags: [...PRELOAD, "--require", "lowport/register", "--import", join(copy, "client/register.js")],
      env: { NODE_OPTIONS: "--import=lowport/register" },
    },
  );
  const { code } = await app.ended();
  assert.equal(code, 0);
  assert.equal(app.lines.length, 2);
  const asked = helper.audit().filter(({ method }) => method === "bind");
  assert.deepEqual(
    asked.map(({ params, decision }) => [params?.["port"], decision]),
    [
      [80, "allow"],
      [25, "deny"],
    ],
  );
});

test("an app that uses the library itself goes on to: its own options count", async (t) => {
  await start_helper(t);
  const source = `import dgram from "node:dgram";
    import http from "node:http";
    import { bindUdp, listen } from "lowport";
    for (const { via, lease } of [
      await listen(http.createServer(), { port: 80, label: "mine", hold: 7 }),
      await bindUdp(dgram.createSocket("udp4"), { port: 80, label: "mine", hold: 7 }),
    ]) console.log("listening", via, lease.port);`;
  const app = PlainApp.start(t, USERS.alice, source, { env: { LOWPORT_LABEL: "not-mine" } });
  for (const nth of [1, 2]) assert.equal(await app.said("listening", nth), "helper 80");
  for (const { label, hold } of await all_leases()) assert.deepEqual([label, hold], ["mine", 7]);
});
