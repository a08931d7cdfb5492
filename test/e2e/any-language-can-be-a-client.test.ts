/**
 * Promise: a complete client takes less than 60 lines of any language's standard library. The one in shared/PROTOCOL.md is taken
 * from there as it stands, and runs as an unprivileged user.
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { enter_box, REPOSITORY, USERS, type User } from "./box.js";
import { all_leases, get, no_leases } from "./client-app.js";
import { start_helper, verify_chain, WEB_RULE } from "./helper-process.js";
import { PlainApp } from "./plain-app.js";

await enter_box(import.meta.url);

const blocks = [...readFileSync(join(REPOSITORY, "shared/PROTOCOL.md"), "utf8").matchAll(/^```python\n([\s\S]*?)^```$/gm)];
const code = blocks[0]?.[1] ?? "";
const CLIENT = "/run/client.py";
writeFileSync(CLIENT, code);

const run = (t: TestContext, user: User, ...args: string[]) => PlainApp.run(t, user, ["python3", ...args]);

test("it is one block of less than 60 lines, and imports nothing but the standard library", (t) => {
  assert.equal(blocks.length, 1);
  const lines = code.split("\n").length - 1;
  t.diagnostic(`${lines} lines`);
  assert.ok(lines > 20 && lines < 60, `${lines} lines`);
  const imports = [...code.matchAll(/^\s*(?:import|from) (.*)$/gm)].map(([, name]) => name);
  assert.deepEqual(imports, ["errno", "json", "os", "socket", "sys"]);
});

test("it binds port 80, serves one request, and gives the port back", async (t) => {
  const helper = await start_helper(t);
  const client = run(t, USERS.alice, CLIENT, "80");
  await client.said("listening on port 80");
  const [lease, ...others] = await all_leases();
  assert.deepEqual([lease?.uid, lease?.port, lease?.label, others], [USERS.alice.uid, 80, "example", []]);
  assert.equal(await get(80), "hello\n");
  await client.said("released");
  assert.deepEqual(await client.ended(), { code: 0, signal: null, stderr: "" });
  const released = await helper.recorded("the release", ({ method }) => method === "release");
  assert.deepEqual([released.decision, released.lease], ["allow", lease?.lease]);
  await no_leases();
  verify_chain();
});

test("a denial says why", async (t) => {
  await start_helper(t);
  const { code: status, stderr } = await run(t, USERS.alice, CLIENT, "25").ended();
  assert.equal(status, 1);
  assert.match(stderr, /^EACCES: tcp \[::\]:25 is not allowed to uid 2001 .*"web", lacks 25 in its ports/);
});

/** A program that imports it. */
const program = (text: string) => ["-c", `import sys; sys.path.insert(0, "/run")\nfrom client import *\n${text}`];

test("as a module: many sockets over one connection, errors of Python's own classes, and UDP", async (t) => {
  await start_helper(t, { rules: [{ ...WEB_RULE, maxSockets: 4 }] });
  const text = `
helper = Lowport()
print("you", helper.call("status")["you"]["uid"])
taken = [helper.bind("tcp", port)[1] for port in (80, 443)] + [helper.bind("udp", 800, address="127.0.0.1")[1]]
print("sockets", [(s.family.name, s.type.name, s.getsockname()[1], s.get_inheritable()) for s in taken])
for wanted in ({"protocol": "tcp", "port": 25}, {"protocol": "tcp", "port": 80}, {"protocol": "tcp", "port": 0}):
    try:
        helper.bind(**wanted)
    except OSError as error:
        print("error", type(error).__name__, errno.errorcode[error.errno])
print("leases", len(helper.call("list")["leases"]))`;
  const client = run(t, USERS.alice, ...program(text));
  assert.deepEqual(await client.ended(), { code: 0, signal: null, stderr: "" });
  assert.deepEqual(client.lines, [
    `you ${USERS.alice.uid}`,
    "sockets [('AF_INET6', 'SOCK_STREAM', 80, False), ('AF_INET6', 'SOCK_STREAM', 443, False), ('AF_INET', 'SOCK_DGRAM', 800, False)]",
    "error PermissionError EACCES",
    "error OSError EADDRINUSE",
    "error OSError EPROTO",
    "leases 3",
  ]);
  await no_leases();
});

test("a helper that dies is told apart from one that refuses", async (t) => {
  const helper = await start_helper(t);
  const client = run(
    t,
    USERS.alice,
    ...program(
      'helper = Lowport()\nhelper.call("status")\nprint("ready", flush=True)\nsys.stdin.readline()\nhelper.call("status")',
    ),
  );
  await client.said("ready");
  await helper.stop("SIGKILL");
  client.tell("go");
  const { code: status, stderr } = await client.ended();
  assert.equal(status, 1);
  assert.match(stderr, /BrokenPipeError|ConnectionError: the helper closed the connection/);
});
