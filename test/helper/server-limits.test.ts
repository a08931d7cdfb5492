/** The server's limits, with real peers in this process. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { keep_alive } from "../../shared/poll.js";
import { make_config, type Reply, start_server, type TestServer } from "./world.js";

let running: TestServer | undefined;
const start = (...args: Parameters<typeof start_server>): TestServer => (running = start_server(...args));
const request = (id: number) => JSON.stringify({ jsonrpc: "2.0", method: "status", params: {}, id });
beforeEach(() => keep_alive(true));
afterEach(async () => {
  await running?.stop();
  running = undefined;
  keep_alive(false);
});

test("too many connections of a user: told why, and closed", async () => {
  const { connect: peer_of, records } = start(make_config([], { connectionsPerUid: 2 }));
  const peers = [peer_of(), peer_of(), peer_of()] as const;
  const { error } = (await peers[2].line()) as Reply;
  assert.deepEqual([error?.code, error?.data["limit"], error?.data["max"]], [4, "connectionsPerUid", 2]);
  assert.equal(await peers[2].line(), "closed");
  assert.equal((await peers[0].ask("status")).result?.["connections"], 2);
  assert.ok(records().some(({ event, decision, code }) => event === "connect" && decision === "deny" && code === "EDQUOT"));
  for (const peer of peers) peer.close();
});

test("too many requests: EAGAIN says how long, and asking after that is fine", async () => {
  const peer = start(make_config([], { requestsPerSecond: 20, requestBurst: 3 })).connect();
  const answers: Reply[] = [];
  for (let i = 0; i < 3; i++) answers.push(await peer.ask("status"));
  assert.deepEqual(
    answers.map(({ error }) => error?.code),
    [undefined, undefined, 5],
    "the connection cost one",
  );
  const wait = Number(answers[2]?.error?.data["retryAfterMs"]);
  assert.ok(wait > 50 && wait <= 100, `${wait}: the one refused, and one more`);
  assert.equal((await peer.ask("status")).error, undefined, "it was not read before there was a token again");
  peer.close();
});

test("beyond the requests in flight reading stops and nothing is dropped", async () => {
  const peer = start(make_config([], { requestsInFlight: 2 })).connect();
  peer.send(Array.from({ length: 50 }, (_, i) => `${request(i)}\n`).join(""));
  for (let i = 0; i < 50; i++) assert.equal(((await peer.line()) as Reply).id, i);
  peer.close();
});
