/** What the helper rehearses before it is ready: it is refused, and leaves nothing behind. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { after, test } from "node:test";
import { warm_up } from "../../helper/warm-up.js";
import { keep_alive } from "../../shared/poll.js";
import { rule_entry } from "../fixtures.js";
import { make_config, start_server } from "./world.js";

after(() => keep_alive(false));

test("nobody is refused, whatever the rules say; nothing is opened, leased, held against a user or recorded", async (t) => {
  const everything = rule_entry({ users: [65_534], ports: ["1-65535"], addresses: ["*"] });
  const config = make_config([everything], { requestBurst: 3, requestsPerSecond: 1 });
  const { server, records, stop } = start_server(config);
  t.after(stop);
  const before = readdirSync("/proc/self/fd");
  for (let i = 0; i < 3; i++) await warm_up(server, config.limits);
  assert.deepEqual(readdirSync("/proc/self/fd"), before);
  assert.deepEqual([server.leases.byId.size, records()], [0, []]);
});

test("it walks the path of a request, up to the refusal", async (t) => {
  const config = make_config([]);
  const { server, stop } = start_server(config);
  t.after(stop);
  const asked: unknown[] = [];
  const { dispatch } = server;
  const watched = async (...[element, call]: Parameters<typeof dispatch>) => {
    await dispatch(element, call);
    asked.push(call.record.decision, call.record.code);
  };
  await warm_up(Object.assign(Object.create(server), { dispatch: watched }), config.limits);
  assert.deepEqual(asked, ["deny", "EACCES", "deny", "EACCES", "deny", "EACCES"]);
});
