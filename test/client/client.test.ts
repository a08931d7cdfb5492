/**
 * Promise: whatever answers on the control socket, the client neither crashes nor hangs nor keeps a descriptor: it says
 * clearly what is wrong. Its parts run for real, against a helper that misbehaves.
 */
import assert from "node:assert/strict";
import { closeSync, fstatSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { Client } from "../../client/client.js";
import type { LowportError } from "../../client/errors.js";
import { count_fds, type FakeHelper, type Guest, granted, start_fake } from "./fake-helper.js";

type Ask = (client: Client) => Promise<unknown>;
const bind: Ask = (client) => client.bind({ protocol: "tcp", port: 80, timeout: 5000 });
const list: Ask = (client) => client.list({ timeout: 5000 });

interface Case {
  readonly ask?: Ask;
  readonly answer: (guest: Guest, id: number, helper: FakeHelper) => void;
  readonly code: string | RegExp;
  readonly says?: RegExp;
}

const PROTOCOL = /does not speak its protocol/;
const line = (message: unknown) => `${JSON.stringify(message)}\n`;

const cases: Record<string, Case> = {
  garbage: { answer: (guest) => guest.say("HTTP/1.1 400 Bad Request\r\n\r\n"), code: "EPROTO", says: PROTOCOL },
  "bytes that are no UTF-8": { answer: (guest) => void guest.pour(Buffer.from("fffe0aff0a", "hex")), code: "EPROTO" },
  "what is no reply": { answer: (guest) => guest.say("[5]\n"), code: "EPROTO" },
  "an empty line": { answer: (guest) => guest.say("\n"), code: "EPROTO", says: PROTOCOL },
  "an end in the middle of a line": {
    answer: (guest) => {
      guest.say('{"jsonrpc":"2.0","id":');
      guest.close();
    },
    code: "ECONNRESET",
    says: /closed the connection/,
  },
  "an end without a word": { answer: (guest) => guest.close(), code: "ECONNRESET", says: /closed the connection/ },
  "a promised descriptor that does not come": {
    answer: (guest, id) => guest.answer(id, granted(80)),
    code: "EPROTO",
    says: /sent none|protocol/,
  },
  "no descriptor promised for a grant": {
    answer: (guest, id) => guest.answer(id, granted(80, 0)),
    code: "EPROTO",
    says: /sent none/,
  },
  "a result of null for a bind": { answer: (guest, id) => guest.answer(id, null), code: "EPROTO" },
  "a result of null for a list": { ask: list, answer: (guest, id) => guest.answer(id, null), code: "EPROTO" },
  "a result of another type for a list": { ask: list, answer: (guest, id) => guest.answer(id, 7), code: "EPROTO" },
  "neither result nor error": {
    ask: list,
    answer: (guest, id) => guest.say(line({ jsonrpc: "2.0", id })),
    code: "EPROTO",
  },
  "an error of null": {
    answer: (guest, id) => guest.say(line({ jsonrpc: "2.0", id, error: null })),
    code: "EPROTO",
  },
  "an error that is a string": {
    answer: (guest, id) => guest.say(line({ jsonrpc: "2.0", id, error: "no" })),
    code: /^(EPROTO|ERR_LOWPORT)/,
  },
  "an error without data": {
    answer: (guest, id) => guest.say(line({ jsonrpc: "2.0", id, error: { code: -32603, message: "Internal error" } })),
    code: "ERR_LOWPORT_INTERNAL",
    says: /Internal error/,
  },
  "an error of a name that is unknown": {
    answer: (guest, id) =>
      guest.say(line({ jsonrpc: "2.0", id, error: { code: 99, message: "new", data: { code: "ENEW", reason: "why" } } })),
    code: "ENEW",
    says: /why/,
  },
  "an error with id null, and then the end": {
    answer: (guest) => {
      const data = { code: "EDQUOT", reason: "uid 7 has 16 connections", limit: "connectionsPerUid", max: 16 };
      guest.say(line({ jsonrpc: "2.0", id: null, error: { code: 4, message: "limit", data } }));
      guest.close();
    },
    code: "EDQUOT",
    says: /uid 7 has 16 connections/,
  },
};

async function fails(t: TestContext, { ask = bind, answer, code, says }: Case) {
  const helper = await start_fake(t, (guest, { id }, it) => answer(guest, id, it));
  const client = new Client(helper.path);
  const error = await ask(client)
    .then(
      (value) => assert.fail(`it was taken: ${JSON.stringify(value)}`),
      (thrown: LowportError) => thrown,
    )
    .finally(() => client.close());
  assert.equal(error.name, "LowportError", String(error.stack));
  if (typeof code === "string") assert.equal(error.code, code, error.message);
  else assert.match(error.code, code);
  if (says !== undefined) assert.match(error.message, says);
}

await test("it warms up: descriptors that are made once are there", async (t) => {
  await fails(t, cases["garbage"] as Case);
});

for (const [name, one] of Object.entries(cases))
  test(`a helper that sends ${name}: ${String(one.code)}, and no descriptor is left`, async (t) => {
    const before = count_fds();
    await t.test("fails", (inner) => fails(inner, one));
    assert.equal(count_fds(), before);
  });

for (const [name, promised, sent] of [
  ["more descriptors than it promises", 1, 3],
  ["more descriptors than a grant has, and promises them", 3, 3],
] as const)
  test(`a helper that sends ${name}: the client has the one it takes, and none when it is closed`, async (t) => {
    const before = count_fds();
    await t.test("grants", async (inner) => {
      const helper = await start_fake(inner, (guest, { id }, { listener }) =>
        guest.answer(id, granted(listener.port, promised), Array(sent).fill(listener.fd)),
      );
      const client = new Client(helper.path);
      const { fd } = (await bind(client)) as { fd: number };
      assert.ok(fstatSync(fd).isSocket());
      closeSync(fd);
      client.close();
    });
    assert.equal(count_fds(), before);
  });

test("descriptors that come with what is no grant are not kept", async (t) => {
  const before = count_fds();
  await t.test("lists", async (inner) => {
    const helper = await start_fake(inner, (guest, { id }, { listener }) =>
      guest.answer(id, { leases: [], fds: 1 }, [listener.fd]),
    );
    const client = new Client(helper.path);
    assert.deepEqual(await list(client), []);
    client.close();
  });
  assert.equal(count_fds(), before);
});

test("a line without end is given up, and its memory with it", { timeout: 60_000 }, async (t) => {
  const filler = Buffer.alloc(65_536, 97);
  const helper = await start_fake(t, (guest) => {
    const pour = () => void (guest.pour(filler) && setImmediate(pour));
    pour();
  });
  const client = new Client(helper.path);
  await assert.rejects(client.bind({ protocol: "tcp", port: 80, timeout: 60_000 }), { code: "EPROTO" });
  client.close();
});

test("replies to nobody, and replies twice, do no harm", async (t) => {
  const helper = await start_fake(t, (guest, { id }) => {
    for (const other of [id + 1000, -1]) guest.answer(other, { leases: ["not yours"] });
    guest.answer(id, { leases: [id] });
    guest.answer(id, { leases: ["twice"] });
  });
  const client = new Client(helper.path);
  assert.deepEqual(await list(client), [1]);
  assert.deepEqual(await list(client), [2]);
  client.close();
});
