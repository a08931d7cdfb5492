/** What the helper rehearses before it is ready: it is refused, and leaves nothing behind. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, readFileSync } from "node:fs";
import { after, test } from "node:test";
import { pino } from "pino";
import { read_peer } from "../../helper/peer.js";
import { decide } from "../../helper/policy.js";
import { accept_own, rehearsal_of, warm_up } from "../../helper/warm-up.js";
import { native } from "../../shared/native.js";
import { keep_alive } from "../../shared/poll.js";
import { count_descriptors, DIST, peer, rule_entry } from "../fixtures.js";
import { make_config, UID } from "./world.js";

after(() => keep_alive(false));

/** A logger, and what was said to it. */
function listening_log() {
  const said: string[] = [];
  return { said, log: pino({}, { write: (line: string) => said.push(line) }) };
}
const everything = rule_entry({ users: [UID], protocols: ["tcp", "udp"], ports: ["1-65535"], addresses: ["*"] });
const names = () => readFileSync("/proc/net/unix", "utf8").match(/@lowport-\S+/g) ?? [];

test("nothing stays open or bound, and nothing is said", async () => {
  const { log, said } = listening_log();
  await warm_up(make_config([everything]), log); // the first opens what stays open: the event loop's epoll set
  const before = count_descriptors();
  for (let i = 0; i < 5; i++) await warm_up(make_config([everything]), log);
  assert.deepEqual([count_descriptors(), said, names()], [before, [], []]);
});

test("it does not wait where the limits are small", async () => {
  const { log } = listening_log();
  const from = performance.now();
  await warm_up(make_config([], { requestBurst: 1, requestsPerSecond: 1, connections: 1, requestsInFlight: 1 }), log);
  assert.ok(performance.now() - from < 900, "a token would have taken a second");
});

test("whoever finds its name is allowed nothing, and this process no socket", () => {
  const { policy, operators } = rehearsal_of(make_config([everything], {}, [UID]));
  for (const port of [1, 443]) {
    const wanted = { protocol: "tcp", address: "::", port, ipv6Only: true } as const;
    assert.equal(decide(policy, peer(UID + 1), wanted).rule, undefined);
    assert.equal(decide(policy, peer(UID), wanted).rule?.maxSockets, port === 1 ? 0 : undefined);
  }
  assert.deepEqual([operators.uids.size, operators.gids.size], [0, 0]);
});

/** Connects, says so, and says when it was closed. */
const STRANGER = `
  import { native } from "${DIST}shared/native.js";
  import { READABLE, watch } from "${DIST}shared/poll.js";
  const fd = native().openUnix(process.argv[1], 0);
  watch(fd, READABLE, () => {
    process.stdout.write(native().receive(fd, Buffer.alloc(10)) === 0 ? "closed" : "answered");
    process.exit();
  });
  process.stdout.write("connected ");
`;

test("others who connect are closed, and nothing is read from them", async (t) => {
  const name = `@lowport-test-${process.pid}`;
  const listener = native().openUnix(name, 8);
  t.after(() => closeSync(listener));
  const stranger = spawn(process.execPath, ["--input-type=module", "-e", STRANGER, name], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let said = "";
  stranger.stdout.setEncoding("utf8").on("data", (text: string) => (said += text));
  await once(stranger.stdout, "data");
  const own = native().openUnix(name, 0);
  const accepted = accept_own(listener);
  assert.equal(read_peer(accepted).pid, process.pid);
  await once(stranger, "close");
  assert.equal(said, "connected closed");
  closeSync(accepted);
  closeSync(own);
  assert.ok(accept_own(listener) < 0, "nobody is left");
});
