/** What the helper rehearses before it is ready: it is refused, and leaves nothing behind. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { pino } from "pino";
import { warm_up } from "../../helper/warm-up.js";
import { rule_entry } from "../fixtures.js";
import { make_config } from "./world.js";

test("nobody is refused, whatever the rules say; nothing is opened and nothing is said", async () => {
  const said: string[] = [];
  const log = pino({ base: null }, { write: (line: string) => void said.push(line) });
  const everything = rule_entry({ users: [65_534], ports: ["1-65535"], addresses: ["*"] });
  const config = make_config([everything], { socketsPerUid: 1 });
  await warm_up(config, log);
  const before = readdirSync("/proc/self/fd");
  await warm_up(config, log);
  assert.deepEqual(readdirSync("/proc/self/fd"), before);
  assert.deepEqual(said, []);
});
