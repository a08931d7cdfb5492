/** The server with real peers in this process: order, limits, the record before the reply, and the end. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, type TestContext, test } from "node:test";
import { pino } from "pino";
import { AuditLog } from "../../helper/audit.js";
import { Server } from "../../helper/server.js";
import { native } from "../../shared/native.js";
import { keep_alive } from "../../shared/poll.js";
import { LINE_TIMEOUT_MS, MAX_LINE_BYTES, VERSION } from "../../shared/protocol.js";
import { count_descriptors, free_port, rule_entry, temp_folder } from "../fixtures.js";
import { make_config, type Reply, start_server, TestPeer, type TestServer, UID } from "./world.js";

const RULE = rule_entry({ users: [UID], ports: ["1-65535"], reusePort: true, protocols: ["tcp", "udp"] });
let running: TestServer | undefined;
const start = (...args: Parameters<typeof start_server>): TestServer => (running = start_server(...args));
const tcp = (port: number, over: object = {}) => ({ protocol: "tcp", port, address: "127.0.0.1", ...over });
const request = (id: number, method = "status", params: object = {}) => JSON.stringify({ jsonrpc: "2.0", method, params, id });
const some_turns = async () => {
  for (let i = 0; i < 5; i++) await new Promise(setImmediate);
};
beforeEach(() => keep_alive(true));
afterEach(async () => {
  await running?.stop();
  running = undefined;
  keep_alive(false);
});

test("status says who the helper takes one for", async () => {
  const peer = start(make_config([], {}, [UID])).connect();
  const { result = {} } = await peer.ask("status");
  assert.deepEqual([result["version"], result["protocolVersion"], result["pid"]], [VERSION, 1, process.pid]);
  const you = result["you"] as Record<string, unknown>;
  assert.deepEqual([you["uid"], you["gid"], you["operator"]], [UID, process.getgid?.(), true]);
  peer.close();
});

test("a granted socket comes with its reply, listens, and is recorded before it is answered", async () => {
  const { connect: peer_of, records } = start(make_config([RULE]));
  const peer = peer_of();
  const port = free_port();
  const { result = {} } = await peer.ask("bind", tcp(port));
  const last = records().at(-1) ?? {};
  assert.deepEqual([last["event"], last["decision"], last["rule"], last["lease"]], ["call", "allow", "web", result["lease"]]);
  assert.deepEqual([result["fds"], result["port"], result["resumed"], peer.fds.length], [1, port, false, 1]);
  assert.deepEqual(native().socketInfo(peer.fds[0] as number), [1, 1, port, "127.0.0.1", 0]);
  const socket = connect(port, "127.0.0.1");
  await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  socket.destroy();
  peer.close();
});

test("pipelined requests are answered in order, however their bytes are cut", async () => {
  const peer = start(make_config([RULE])).connect();
  const port = free_port();
  const lines = [request(1), "nonsense", request(2, "bind", tcp(port)), request(3, "nope"), request(4, "list")];
  const bytes = Buffer.from(`${lines.join("\n")}\n`);
  for (let at = 0; at < bytes.length; at += 7) {
    peer.send(bytes.subarray(at, at + 7));
    await new Promise(setImmediate);
  }
  const replies: Reply[] = [];
  for (const _ of lines) replies.push((await peer.line()) as Reply);
  assert.deepEqual(
    replies.map(({ id, error }) => [id, error?.code]),
    [
      [1, undefined],
      [null, -32700],
      [2, undefined],
      [3, -32601],
      [4, undefined],
    ],
  );
  assert.equal(peer.fds.length, 1);
  peer.close();
});

test("a batch is one array in order, its descriptors too; 17 are refused; a notification is not answered", async () => {
  const { connect: peer_of, records } = start(make_config([RULE]));
  const peer = peer_of();
  const ports = [free_port(), free_port()] as const;
  const notification = JSON.stringify({ jsonrpc: "2.0", method: "status" });
  const batch = [request(1, "bind", tcp(ports[0])), notification, request(2, "nope"), request(3, "bind", tcp(ports[1]))];
  peer.send(`[${batch.join(",")}]\n[${notification}]\n${notification}\n`);
  const replies = (await peer.line()) as Reply[];
  assert.deepEqual(
    replies.map(({ id }) => id),
    [1, 2, 3],
  );
  assert.deepEqual(
    peer.fds.map((fd) => (native().socketInfo(fd) as unknown[])[2]),
    ports,
  );
  peer.send(`[${Array(17).fill(request(1)).join(",")}]\n`);
  assert.equal(((await peer.line()) as Reply).error?.code, -32600, "and nothing was said to the notifications");
  const refused = records().filter(({ method, decision }) => method === "status" && decision === "invalid");
  assert.equal(refused.length, 3, "which are on record");
  peer.close();
});

test("a line that is too long is answered and the connection closed; one of the limit is taken", async () => {
  const { connect: peer_of } = start(make_config([]));
  const peer = peer_of();
  const send_all = async (bytes: Buffer) => {
    for (let sent = 0; sent < bytes.length; await new Promise(setImmediate)) {
      const got = peer.send(bytes.subarray(sent));
      if (got > 0) sent += got;
      else if (got === -32) break;
    }
  };
  const padded = Buffer.from(`${request(1)}${" ".repeat(MAX_LINE_BYTES - request(1).length)}\n`);
  await send_all(padded);
  assert.equal(((await peer.line()) as Reply).id, 1);
  await send_all(Buffer.concat([Buffer.from(" "), padded]));
  assert.equal(((await peer.line()) as Reply).error?.code, -32600);
  assert.equal(await peer.line(), "closed");
  peer.close();
});

test("a line that is not finished in time closes the connection; an idle one is kept", async (t: TestContext) => {
  const { connect: peer_of, records } = start(make_config([]));
  const [slow, idle] = [peer_of(), peer_of()];
  await slow.ask("status");
  await idle.ask("status");
  t.mock.timers.enable({ apis: ["setTimeout"] });
  slow.send("{");
  await some_turns();
  t.mock.timers.tick(LINE_TIMEOUT_MS - 1);
  slow.send('"');
  await some_turns();
  t.mock.timers.tick(1);
  assert.equal(await slow.line(), "closed", "counted from the first byte");
  t.mock.timers.tick(3_600_000);
  t.mock.timers.reset();
  assert.equal((await idle.ask("status")).error, undefined);
  assert.ok(records().some(({ event, reason }) => event === "disconnect" && /not finished/.test(String(reason))));
  slow.close();
  idle.close();
});

test("the connection is the lifeline: its end ends the lease, or holds it for the same user", async () => {
  const { connect: peer_of, records } = start(make_config([RULE]));
  const [one, two] = [free_port(), free_port()];
  const peer = peer_of();
  const { result: held = {} } = await peer.ask("bind", tcp(one, { hold: 50 }));
  await peer.ask("bind", tcp(two));
  peer.close();
  const next = peer_of();
  for (let left = 2; left > 1; ) {
    const { result = {} } = await next.ask("list");
    left = (result["leases"] as unknown[]).length;
  }
  const { result: again = {} } = await next.ask("bind", tcp(one));
  assert.deepEqual([again["lease"], again["resumed"]], [held["lease"], true]);
  assert.deepEqual((await next.ask("bind", tcp(two))).result?.["resumed"], false);
  const ends = records().filter(({ event }) => event === "lease-end");
  assert.equal(ends.length, 1);
  assert.match(String(ends[0]?.["reason"]), /its owner's connection closed/);
  next.close();
});

test("a peer's descriptors are dropped, and the helper's count stays flat", async () => {
  const peer = start(make_config([])).connect();
  await peer.ask("status");
  const before = count_descriptors();
  for (let i = 0; i < 20; i++) {
    peer.send(`${request(i)}\n`, [0, 1, 2]);
    await peer.line();
  }
  assert.equal(count_descriptors(), before);
  peer.close();
});

test("fsync: answered all the same, and in order", async () => {
  const { connect: peer_of, records } = start(make_config([RULE]), "fsync");
  const peer = peer_of();
  peer.send(`${request(1)}\n${request(2)}\n`);
  assert.deepEqual([((await peer.line()) as Reply).id, ((await peer.line()) as Reply).id], [1, 2]);
  assert.equal(records().filter(({ event }) => event === "call").length, 2);
  peer.close();
});

test("what cannot be recorded is refused with EIO and taken back; once there is room all is well", async () => {
  const { connect: peer_of, records } = start(make_config([RULE]));
  const peer = peer_of();
  const port = free_port();
  const limit = (bytes: string) => execFileSync("prlimit", ["--pid", String(process.pid), `--fsize=${bytes}:`]);
  const ignore = () => undefined;
  await peer.ask("status");
  process.on("SIGXFSZ", ignore);
  limit("1");
  try {
    const { error } = await peer.ask("bind", tcp(port));
    assert.deepEqual([error?.code, error?.data["code"], peer.fds.length], [7, "EIO", 0]);
  } finally {
    limit("unlimited");
    process.off("SIGXFSZ", ignore);
  }
  assert.deepEqual((await peer.ask("list")).result?.["leases"], []);
  assert.equal(records().filter(({ method }) => method === "bind").length, 0);
  assert.equal((await peer.ask("bind", tcp(port))).error, undefined);
  peer.close();
});

test("where others are busy many connections are taken in a turn, so that none waits long", async () => {
  const { connect: peer_of } = start(make_config([], {}, [UID]));
  const busy = peer_of();
  await busy.ask("status");
  const crowd = Array.from({ length: 12 }, peer_of);
  const connections = [];
  for (let i = 0; i < 3; i++) connections.push((await busy.ask("status")).result?.["connections"]);
  assert.equal(connections[2], 13, connections.join());
  for (const peer of [busy, ...crowd]) peer.close();
});

test("stop answers those that wait to be let in, too", async () => {
  const { connect: peer_of, stop } = start(make_config([], {}, [UID]));
  const crowd = Array.from({ length: 9 }, peer_of);
  for (const peer of crowd) peer.send(`${request(1)}\n${request(2)}\n`);
  await stop();
  for (const peer of crowd) {
    const replies = [await peer.line(), await peer.line()] as Reply[];
    assert.deepEqual(
      [replies.map(({ id, result }) => [id, result?.["pid"]]), await peer.line()],
      [[1, 2].map((id) => [id, process.pid]), "closed"],
    );
    peer.close();
  }
  running = undefined;
});

test("a server that was not started lets nobody in at its stop either", async () => {
  const path = join(temp_folder(), "s");
  const server = new Server(
    native().openUnix(path, 9),
    make_config([], {}, [UID]),
    new AuditLog(`${path}.log`, "write"),
    pino({ level: "silent" }),
  );
  const stranger = new TestPeer(path);
  stranger.send(`${request(1)}\n`);
  await new Promise<void>((resolve) => server.stop(resolve));
  assert.equal(await stranger.line(), "closed");
  stranger.close();
});

test("stop answers what has come, closes, and the app's copy serves on", async () => {
  const { connect: peer_of, stop, records } = start(make_config([RULE]));
  const peer = peer_of();
  const port = free_port();
  await peer.ask("bind", tcp(port, { hold: 50 }));
  peer.send(`${request(9)}\n`);
  await stop();
  running = undefined;
  const reply = (await peer.line()) as Reply;
  assert.ok(reply.id === 9 && (reply.error === undefined || reply.error.code === 8), JSON.stringify(reply));
  assert.equal(await peer.line(), "closed");
  await some_turns();
  assert.ok(records().some(({ event, reason }) => event === "lease-end" && /the helper stops/.test(String(reason))));
  assert.equal((native().socketInfo(peer.fds[0] as number) as unknown[])[1], 1, "it listens");
  for (const fd of peer.fds.splice(0)) closeSync(fd);
  peer.close();
});
