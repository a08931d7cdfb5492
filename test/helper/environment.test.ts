/** Variables that change what code runs as root; and the service log, which loses lines rather than stop the helper. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { dangerous_variables } from "../../helper/environment.js";
import { DIST, run_module } from "../fixtures.js";

test("each dangerous variable is named; the rest, and empty ones, are not", () => {
  const set = {
    ...{ NODE_OPTIONS: "--inspect", NODE_PATH: "/tmp", LD_PRELOAD: "x.so", LD_LIBRARY_PATH: "/tmp", LD_AUDIT: "x" },
    ...{ UV_USE_IO_URING: "1", OPENSSL_CONF: "/tmp/x", GCONV_PATH: "/tmp" },
  };
  assert.deepEqual(dangerous_variables(set).toSorted(), Object.keys(set).toSorted());
  assert.deepEqual(dangerous_variables({ NODE_OPTIONS: "", PATH: "/bin", HOME: "/", NODE_V8_COVERAGE: "/tmp", LANG: "C" }), []);
  assert.deepEqual(dangerous_variables({}), []);
});

const LOG = `import { open_log } from "${DIST}helper/log.js"; const log = open_log();`;

test("the log is JSON lines on stderr, with level and time, and what peers say under its key", () => {
  const { status, stdout, stderr } = run_module(`${LOG} log.info({ reason: "a\\nb", level: "x" }, "ready"); log.error("bad");`);
  const lines = stderr.split("\n").map((line) => JSON.parse(line) as Record<string, unknown>);
  assert.deepEqual([status, stdout, lines.length], [0, "", 2]);
  assert.match(stderr, /^\{"level":"info","time":"\d{4}-\d\d-\d\dT[\d:.]{12}Z","reason":"a\\nb",/);
  assert.deepEqual([lines[0]?.["msg"], lines[1]?.["level"]], ["ready", "error"]);
});

test("a log that nobody reads, or a full disk, does not stop the helper", () => {
  for (const stderr of ["2>/dev/full", "2>&-", "2> >(true)"]) {
    const { status, stdout } = run_module(
      `${LOG} process.on("SIGPIPE", () => undefined); for (let i = 0; i < 20000; i++) log.info("x".repeat(100)); log.fatal("y"); console.log("alive");`,
      ["bash", "-c", `exec "$0" "$@" ${stderr}`],
    );
    assert.deepEqual([status, stdout], [0, "alive"], stderr);
  }
});
