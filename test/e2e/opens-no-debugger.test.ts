/**
 * Node opens a debugger when it is sent SIGUSR1, which is what a rotation of logs sends; whoever connects to it runs code
 * as the helper, at first as root. So a helper that serves has none, whenever the signal came, and one that finds one ends.
 */
import assert from "node:assert/strict";
import { connect } from "node:net";
import { test } from "node:test";
import { NODE_FLAGS } from "../../shared/node-flags.js";
import { enter_box } from "./box.js";
import { run_helper, start_helper } from "./helper-process.js";

await enter_box(import.meta.url);

const DEBUGGER_PORT = 9229;

function is_open(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("close", () => socket.destroy());
    socket.once("connect", () => socket.end());
  });
}

test("a helper with an open debugger does not start", async (t) => {
  await start_helper(t).then((helper) => helper.stop());
  const { code, stderr } = await run_helper(t, { nodeFlags: [...NODE_FLAGS, `--inspect=127.0.0.1:${DEBUGGER_PORT}`] });
  assert.equal(code, 78, stderr);
  assert.match(stderr, /lowportd: a debugger is open/);
});

test("SIGUSR1 to a helper that serves opens none", async (t) => {
  const helper = await start_helper(t);
  helper.process.kill("SIGUSR1");
  await helper.said("rotate");
  assert.equal(await is_open(DEBUGGER_PORT), false);
});

// Ignored until node listens, because before that the signal's default would end the process.
const storm = (from_ms: number) => `trap '' USR1
  ( while read -r name < /proc/$$/comm && [ "$name" = sh ]; do :; done
    sleep ${from_ms / 1000}
    i=0; while [ $i -lt 300 ]; do kill -USR1 $$ || exit 0; i=$((i + 1)); done ) 2>/dev/null &
  exec "$@"`;

for (const from_ms of [0, 15, 30, 45, 60, 90])
  test(`SIGUSR1 from ${from_ms} ms after the start on: it ends, or serves without a debugger`, async (t) => {
    const started = start_helper(t, { wrapper: ["sh", "-c", storm(from_ms), "sh"] });
    const why = await started.then(
      () => undefined,
      (error: Error) => error.message,
    );
    if (why === undefined) assert.equal(await is_open(DEBUGGER_PORT), false, "it serves");
    else assert.match(why, /helper ended with (78: .*a debugger is open|null: $)/s); // null: the signal's default, before Node is there
  });
