/** Promise: a helper that was busy takes little more memory than one that was not. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { test } from "node:test";
import { NODE_FLAGS } from "../../shared/node-flags.js";
import { enter_box, USERS } from "./box.js";
import { start_helper } from "./helper-process.js";
import { Peer, request } from "./peer.js";

await enter_box(import.meta.url);

const ROUNDS = 100;
const AT_ONCE = 500;
/** Megabytes of the space for what is young: 2 at the start; without a limit V8 lets it grow to 33. */
const SMALL = 9;
const PROBE = "/etc/lowport-probe.cjs";
const probe = `process.on("SIGUSR2", () => {
  const { space_size } = require("node:v8").getHeapSpaceStatistics().find(({ space_name }) => space_name === "new_space");
  require("node:fs").writeSync(2, JSON.stringify({ msg: "probe", megabytes: space_size / 1e6 }) + "\\n");
});`;

test("after many requests the space for what is young is small", async (t) => {
  writeFileSync(PROBE, probe);
  const many = { requestsPerSecond: 1_000_000, requestBurst: 1_000_000, requestsInFlight: 1000 };
  const helper = await start_helper(t, { config: { limits: many }, nodeFlags: [...NODE_FLAGS, "--require", PROBE] });
  const wire = await (await Peer.start(t, USERS.alice)).connect();
  for (let round = 0; round < ROUNDS; round++) {
    await wire.send(Array.from({ length: AT_ONCE }, () => request("check", { protocol: "tcp", port: 80 })).join(""));
    for (let i = 0; i < AT_ONCE; i++) assert.ok("result" in JSON.parse((await wire.line()).text));
  }
  helper.process.kill("SIGUSR2");
  const { megabytes } = await helper.said("probe");
  t.diagnostic(`${String(megabytes)} MB`);
  assert.ok(Number(megabytes) < SMALL, `${String(megabytes)} MB`);
});
