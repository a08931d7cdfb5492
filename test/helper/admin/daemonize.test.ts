/**
 * What the launcher of `run --daemon` makes of a helper that serves, fails, is killed or hangs. Stand-ins take the
 * helper's place; with the real one it is tried in e2e/becomes-a-daemon.test.ts.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import process from "node:process";
import { type TestContext, test } from "node:test";
import { NODE_FLAGS } from "../../../shared/node-flags.js";
import { REPOSITORY } from "../../fixtures.js";

const LAUNCHER = `import { launch } from ${JSON.stringify(new URL("../../../helper/admin/daemonize.js", import.meta.url).href)};
  const { command, limit } = JSON.parse(process.argv[1]);
  console.log(JSON.stringify(await launch(command, limit)));
  process.exit();`;

/** Whether a process runs; one that has ended and waits to be reaped does not. */
function runs(pid: number): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

/** Processes that have a word in their command line. */
const with_word = (word: string) =>
  readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((name) => {
      try {
        return readFileSync(`/proc/${name}/cmdline`, "utf8").split("\0").includes(word);
      } catch {
        return false;
      }
    });

function launch(t: TestContext, script: string, { limit = 20_000, words = [] as string[] } = {}) {
  const command = ["/bin/sh", "-c", script, "stand-in", ...words];
  const child = spawn(process.execPath, ["--input-type=module", "-e", LAUNCHER, JSON.stringify({ command, limit })], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  t.after(() => child.kill("SIGKILL"));
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const outcome = once(child, "close").then(() => ({ started: stdout === "" ? undefined : JSON.parse(stdout), stderr }));
  return { child, outcome, said: () => stderr };
}

test("one that serves stays when the launcher ends, and its process id is told", async (t) => {
  const { started, stderr } = await launch(t, "echo warning >&2; exec 2>/dev/null; echo $$ >&3; exec 3>&-; exec sleep 60")
    .outcome;
  assert.ok(runs(started.pid), JSON.stringify(started));
  process.kill(started.pid, "SIGKILL");
  assert.equal(stderr, "warning\n", "what it said before it served is passed on");
});

test("the code of one that fails comes back, with all that it said", async (t) => {
  for (const code of [64, 70, 77, 78, 1]) {
    const { started, stderr } = await launch(t, `echo "it is wrong" >&2; exit ${code}`).outcome;
    assert.deepEqual({ started, stderr }, { started: { code }, stderr: "it is wrong\n" });
  }
});

test("one that ends well but never served has failed", async (t) => {
  const { started } = await launch(t, "exit 0").outcome;
  assert.deepEqual(started, { code: 1, why: "the helper ended before it served" });
});

test("one that was killed has failed, and the signal is told", async (t) => {
  const { started } = await launch(t, "kill -9 $$").outcome;
  assert.deepEqual(started, { code: 1, why: "the helper was killed before it served (signal 9)" });
});

test("one that does not serve in time is killed, with all that it started", async (t) => {
  const word = `lowport-test-${process.pid}-late`;
  const { started } = await launch(t, 'sh -c "sleep 60; :" "$1"', { limit: 300, words: [word] }).outcome;
  assert.deepEqual(started, { code: 1, why: "the helper did not serve within 0.3 s, and was killed" });
  assert.deepEqual(
    with_word(word).filter((pid) => runs(Number(pid))),
    [],
  );
});

test("what is no process id is no readiness", async (t) => {
  const { started } = await launch(t, "echo ready >&3; sleep 60", { limit: 300 }).outcome;
  assert.equal(started.code, 1);
});

test("a launcher that is interrupted takes the helper with it", async (t) => {
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    const word = `lowport-test-${process.pid}-${signal}`;
    const { child, outcome } = launch(t, 'echo begun >&2; sh -c "sleep 60; :" "$1"', { words: [word] });
    await once(child.stderr, "data");
    child.kill(signal);
    const { started } = await outcome;
    assert.deepEqual(started, { code: 1, why: `${signal}: the helper was killed before it served` });
    assert.deepEqual(
      with_word(word).filter((pid) => runs(Number(pid))),
      [],
    );
  }
});

test("the flags of the daemon are those of the first line of main.ts", () => {
  const first = readFileSync(`${REPOSITORY}/helper/main.ts`, "utf8").split("\n")[0];
  assert.equal(first, `#!/usr/bin/env -S node ${NODE_FLAGS.join(" ")}`);
});
