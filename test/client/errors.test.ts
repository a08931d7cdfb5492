/** Promise: an error of the client's is one that Node programs know how to handle, and says what to do. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { constants, tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import * as fc from "fast-check";
import { error_from_reply, LowportError, unreachable } from "../../client/errors.js";
import { explain_refusal } from "../../client/listen.js";
import { ERRORS } from "../../shared/protocol.js";

test("it has the members that an error of Node's has", () => {
  const error = new LowportError("EADDRINUSE", "bind", "tcp [::]:80 is taken");
  assert.ok(error instanceof Error);
  assert.equal(error.name, "LowportError");
  assert.equal(error.message, "bind EADDRINUSE: tcp [::]:80 is taken");
  assert.equal(error.errno, -constants.errno.EADDRINUSE);
  assert.equal(error.syscall, "bind");
  assert.equal(error.reason, "tcp [::]:80 is taken");
  assert.ok(!("cause" in error));
  assert.equal(new LowportError("ERR_LOWPORT", "bind", "x").errno, undefined);
  const cause = new Error("why");
  assert.equal(new LowportError("EIO", "bind", "x", { cause }).cause, cause);
});

for (const [name, { code }] of Object.entries(ERRORS).filter(([, error]) => error.code > 0))
  test(`error ${code} of the helper is ${name} here, with its reason`, () => {
    const data = { code: name, reason: "because", limit: "maxSockets", max: 8, retryAfterMs: 5 };
    const error = error_from_reply("bind", { code, message: "short", data });
    assert.equal(error.code, name);
    assert.equal(error.message, `bind ${name}: because`);
    assert.deepEqual([error.limit, error.max, error.retryAfterMs], ["maxSockets", 8, 5]);
    assert.equal(error.errno, -(constants.errno as Record<string, number>)[name]! || undefined);
  });

for (const [code, name] of [
  [-32700, "ERR_LOWPORT_PARSE"],
  [-32600, "ERR_LOWPORT_INVALID_REQUEST"],
  [-32601, "ERR_LOWPORT_METHOD_NOT_FOUND"],
  [-32602, "ERR_LOWPORT_INVALID_PARAMS"],
  [-32603, "ERR_LOWPORT_INTERNAL"],
] as const)
  test(`error ${code} of JSON-RPC is ${name}`, () => {
    const error = error_from_reply("bind", { code, message: "short", data: { reason: "because", path: "/port" } });
    assert.deepEqual([error.code, error.path, error.errno], [name, "/port", undefined]);
  });

test("any error reply at all becomes a LowportError with a code and a message", () => {
  fc.assert(
    fc.property(fc.integer(), fc.string(), fc.jsonValue(), (code, message, data) => {
      const error = error_from_reply("bind", { code, message, data });
      assert.ok(error instanceof LowportError);
      assert.equal(typeof error.code, "string");
      assert.equal(typeof error.reason, "string");
      assert.ok(error.message.startsWith(`bind ${error.code}: `));
    }),
  );
});

test("what cannot be reached names the path, and what to do", () => {
  const folder = mkdtempSync(join(tmpdir(), "lowport-errors-"));
  try {
    const path = join(folder, "socket");
    assert.match(
      unreachable(path, "ENOENT").message,
      /^connect ENOENT: there is no lowport helper at .*\/socket\. (Start it with `sudo |Install it as a service with `sudo lowportd install`)/,
    );
    writeFileSync(path, "");
    for (const code of ["ECONNREFUSED", "EACCES", "EPERM", "EMFILE", "EPROTOTYPE"]) {
      const error = unreachable(path, code);
      assert.equal(error.code, code);
      assert.equal(error.syscall, "connect");
      assert.ok(error.message.includes(path), error.message);
    }
    const who = process.getuid?.() === 0 ? "root needs no group" : `user ${userInfo().username} `;
    assert.ok(unreachable(path, "EACCES").message.includes(who));
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a refusal of the helper's takes the place of the kernel's, with where it was", () => {
  const refused = Object.assign(new Error("listen EACCES: permission denied 0.0.0.0:25"), {
    code: "EACCES",
    syscall: "listen",
    address: "0.0.0.0",
    port: 25,
  });
  const explained = explain_refusal(refused, new LowportError("EDQUOT", "bind", "full", { limit: "maxSockets", max: 1 }));
  assert.ok(explained instanceof LowportError);
  const { code, syscall, address, port, limit, max, message } = explained;
  assert.deepEqual(
    { code, syscall, address, port, limit, max, message },
    {
      code: "EDQUOT",
      syscall: "listen",
      address: "0.0.0.0",
      port: 25,
      limit: "maxSockets",
      max: 1,
      message: "listen EDQUOT: full",
    },
  );
  const away = explain_refusal(refused, new LowportError("ENOENT", "connect", "no helper"));
  assert.equal((away as LowportError).message, "listen EACCES: permission denied 0.0.0.0:25; no helper");
  const other = new TypeError("a signal's reason");
  assert.equal(explain_refusal(refused, other), other);
});
