/**
 * Promise: `bindUdp` gives a dgram socket a low port through the helper: datagrams come with their true remote address,
 * answers come from the port, IPv6 reaches IPv4 too unless it is told not to, and closing gives the port back.
 */
import assert from "node:assert/strict";
import dgram from "node:dgram";
import { once } from "node:events";
import { closeSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { native } from "../../shared/native.js";
import { enter_box, USERS } from "./box.js";
import { App, all_leases, no_leases } from "./client-app.js";
import type { Context } from "./client-app-main.js";
import { start_helper, WEB_RULE } from "./helper-process.js";

await enter_box(import.meta.url);
const DNS = { rules: [{ ...WEB_RULE, ports: [53] }] };

interface Wanted {
  type: "udp4" | "udp6";
  port: number;
  host?: string;
  ipv6Only?: boolean;
}

/** Answers each datagram with what it was and where it came from. */
const echo = async ({ lowport, node, say, heard, describe_error, arg }: Context<Wanted>) => {
  const { type, ...options } = arg;
  const { ipv6Only = false } = options;
  const socket = node.dgram.createSocket({ type, ipv6Only });
  const emitted: string[] = [];
  for (const event of ["listening", "error"]) socket.on(event, () => emitted.push(event));
  socket.on("message", (message, { address, port }) =>
    socket.send(`${message.toString()} from ${address} ${port}`, port, address),
  );
  try {
    const { via } = await lowport.bindUdp(socket, options);
    say("bound", { via, address: socket.address(), emitted });
  } catch (error) {
    say("failed", describe_error(error));
  }
  await heard("close");
  socket.close();
};

/** Sends a datagram, and gives the sender's port, the answer and where that came from. */
async function ask(t: TestContext, type: "udp4" | "udp6", to: string, port: number) {
  const socket = dgram.createSocket(type).bind(0);
  await once(socket, "listening");
  t.after(() => socket.close());
  socket.send("hello", port, to);
  const [answer, from] = (await once(socket, "message")) as [Buffer, dgram.RemoteInfo];
  return { answer: answer.toString(), from: `${from.address} ${from.port}`, own: socket.address().port };
}

for (const [type, to, seen, all] of [
  ["udp4", "127.0.0.1", "127.0.0.1", "0.0.0.0"],
  ["udp6", "::1", "::1", "::"],
] as const)
  test(`${type} on port 53`, async (t) => {
    await start_helper(t, DNS);
    const app = App.start(t, USERS.alice, echo, { type, port: 53 });
    const { via, address, emitted } = await app.said("bound");
    assert.equal(via, "helper");
    assert.deepEqual(address, { address: all, family: type === "udp4" ? "IPv4" : "IPv6", port: 53 });
    assert.deepEqual(emitted, ["listening"]);
    const { answer, from, own } = await ask(t, type, to, 53);
    assert.equal(answer, `hello from ${seen} ${own}`);
    assert.equal(from, `${to} 53`);
    assert.deepEqual(
      (await all_leases()).map(({ protocol, address: at, port }) => [protocol, at, port]),
      [["udp", all, 53]],
    );
    app.tell("close");
    await app.ends_well();
    await no_leases();
  });

test("udp6 without ipv6Only serves IPv4 too", async (t) => {
  await start_helper(t, DNS);
  await App.start(t, USERS.alice, echo, { type: "udp6", port: 53 }).said("bound");
  const { answer, own } = await ask(t, "udp4", "127.0.0.1", 53);
  assert.equal(answer, `hello from ::ffff:127.0.0.1 ${own}`);
});

for (const [port, via] of [
  [53, "helper"],
  [5353, "direct"],
] as const)
  test(`udp6 with ipv6Only leaves IPv4 to another socket (${via})`, async (t) => {
    await start_helper(t, DNS);
    const six = App.start(t, USERS.alice, echo, { type: "udp6", port, ipv6Only: true });
    assert.equal((await six.said("bound")).via, via);
    const four = App.start(t, USERS.alice, echo, { type: "udp4", port });
    assert.equal((await four.said("bound")).via, via);
    const { answer, own } = await ask(t, "udp4", "127.0.0.1", port);
    assert.equal(answer, `hello from 127.0.0.1 ${own}`);
  });

test("a high port is bound directly, a taken one is EADDRINUSE, and the helper hears nothing of either", async (t) => {
  const helper = await start_helper(t, DNS);
  const first = App.start(t, USERS.alice, echo, { type: "udp4", port: 5353 });
  assert.equal((await first.said("bound")).via, "direct");
  const second = App.start(t, USERS.alice, echo, { type: "udp4", port: 5353 });
  const { code, port } = await second.said("failed");
  assert.deepEqual({ code, port }, { code: "EADDRINUSE", port: 5353 });
  assert.ok(!helper.audit().some(({ event }) => event === "connect"));
});

for (const [type, at, via] of [
  ["udp4", "0.0.0.0", "inherited"],
  ["udp6", "::", "inherited"],
  ["udp4", "::1", "helper"],
] as const)
  test(`${type}: an inherited socket on ${at} is ${via === "helper" ? "not " : ""}taken`, async (t) => {
    await start_helper(t, DNS);
    const fd = native().bindSocket(false, at, 53, false, false, 0);
    t.after(() => closeSync(fd));
    const wrapper = ["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh"];
    const options = { inherit: [fd], wrapper, env: { LISTEN_FDS: "1" } };
    const app = App.start(t, USERS.alice, echo, { type, port: 53 }, options);
    assert.equal((await app.said("bound")).via, via);
    const { answer } = await ask(t, type, type === "udp4" ? "127.0.0.1" : "::1", 53);
    assert.match(answer, /^hello from /);
  });
