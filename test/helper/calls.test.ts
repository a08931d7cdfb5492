/** The dispatcher: every way through it ends in one response (none for a notification) and a record that says which. */
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { inspect } from "node:util";
import * as fc from "fast-check";
import { pino } from "pino";
import { Accounts } from "../../helper/account.js";
import { type Call, error_response, type Handlers, make_dispatcher, refuse } from "../../helper/calls.js";
import { type Element, read_message } from "../../helper/envelope.js";
import { LowportError, refusal } from "../../shared/errors.js";
import { METHODS, type MethodName } from "../../shared/methods.js";
import { ERRORS, INVALID_PARAMS, LIMITS } from "../../shared/protocol.js";
import { peer } from "../fixtures.js";

const logged: string[] = [];
const log = pino({ base: null }, { write: (line: string) => logged.push(line) });
const NEXT_SEQ = 42;
let admit: (call: Call) => void = () => undefined;
let settled: () => Promise<void> | undefined = () => undefined;
let work: (params: unknown, call: Call) => object = () => ({});
const names = Object.keys(METHODS) as MethodName[];
const handlers = Object.fromEntries(
  names.map((name) => [name, (params: unknown, call: Call) => work(params, call)]),
) as unknown as Handlers;
const ended: Call[] = [];
const services = { log, next_seq: () => NEXT_SEQ, admit: (call: Call) => admit(call), settled: () => settled() };
const dispatch = make_dispatcher({ handlers, ...services, on_end: (call) => ended.push(call) });

beforeEach(() => {
  logged.length = ended.length = 0;
  admit = () => undefined;
  settled = () => undefined;
  work = () => ({ fine: true });
});

async function call_with(element: Element): Promise<Call> {
  const caller = { number: 1, peer: peer(1), account: new Accounts().of(1, LIMITS) };
  const call: Call = { caller, record: { event: "call" }, response: undefined };
  await dispatch(element, call);
  assert.equal(ended.filter((one) => one === call).length, 1, "each call ends once");
  return call;
}
const call_of = (text: string) => call_with(read_message(text).elements[0] as Element);
const ask = (method: string, params?: object, id: string | number = 7) =>
  call_of(JSON.stringify({ jsonrpc: "2.0", method, params, id }));

test("a call that succeeds: result, allow, params on record, time taken", async () => {
  work = (params) => ({ got: params });
  const { response, record } = await ask("release", { lease: "abc" });
  assert.deepEqual(response, { jsonrpc: "2.0", id: 7, result: { got: { lease: "abc" } } });
  const { durationUs = -1, ...rest } = record;
  assert.ok(Number.isInteger(durationUs) && durationUs >= 0);
  const expected = { event: "call", method: "release", id: 7, params: { lease: "abc" }, decision: "allow" };
  assert.deepEqual(rest, expected);
});

test("params may be left out where none are required", async () => {
  work = (params) => ({ got: params });
  assert.deepEqual((await ask("status")).response?.result, { got: {} });
});

test("an unknown member of params is refused with a pointer, unexecuted and off the record", async () => {
  work = () => assert.fail("executed");
  const { response, record } = await ask("release", { lease: "abc", "u/i~d": 0 });
  assert.equal(response?.error?.code, INVALID_PARAMS);
  assert.equal(response.error.message, "Invalid params");
  assert.equal((response.error.data as { path: string }).path, "/u~1i~0d");
  assert.equal(record.params, undefined);
  assert.deepEqual([record.decision, record.code], ["invalid", INVALID_PARAMS]);
});

for (const [text, code, decision, id] of [
  ["nonsense", -32700, "invalid", null],
  ["{}", -32600, "invalid", null],
  ['{"jsonrpc":"2.0","method":1,"id":"a"}', -32600, "invalid", "a"],
  ['{"jsonrpc":"2.0","method":"no.such","id":1}', -32601, "invalid", 1],
  ['{"jsonrpc":"2.0","method":"toString","id":1}', -32601, "invalid", 1],
  ['{"jsonrpc":"2.0","method":"__proto__","id":1}', -32601, "invalid", 1],
  ['{"jsonrpc":"2.0","method":"rpc_discover","id":1}', -32601, "invalid", 1],
  ['{"jsonrpc":"2.0","method":"status","params":[],"id":1}', -32602, "invalid", 1],
  ['{"jsonrpc":"2.0","method":"bind","params":{"port":80},"id":1}', -32602, "invalid", 1],
  ['{"jsonrpc":"2.0","method":"bind","params":{"protocol":"tcp","port":0},"id":1}', -32602, "invalid", 1],
] as const)
  test(`${text} is ${code}`, async () => {
    work = () => assert.fail("executed");
    const { response, record } = await call_of(text);
    assert.deepEqual([response?.error?.code, response?.id], [code, id]);
    assert.deepEqual([record.decision, record.code], [decision, code]);
    assert.ok((record.reason ?? "").length > 0);
    assert.doesNotMatch(JSON.stringify(response), /no\.such/, "what the peer sent is not sent back");
  });

test("a notification is neither executed nor answered, but recorded as refused, and costs a token", async () => {
  let admitted = 0;
  admit = () => admitted++;
  work = () => assert.fail("executed");
  const { response, record } = await call_of('{"jsonrpc":"2.0","method":"status"}');
  assert.equal(response, undefined);
  assert.deepEqual([record.method, record.decision, record.code], ["status", "invalid", -32600]);
  assert.equal(admitted, 1);
});

test("a refusal keeps its name, data and id, and is a deny", async () => {
  work = () => {
    throw refusal("EDQUOT", "too many", { limit: "socketsPerUid", max: 3 });
  };
  const { response, record } = await ask("status", {}, "x");
  const data = { code: "EDQUOT", reason: "too many", limit: "socketsPerUid", max: 3 };
  assert.deepEqual(response, { jsonrpc: "2.0", id: "x", error: { code: 4, message: ERRORS.EDQUOT.cause, data } });
  assert.deepEqual([record.decision, record.code, record.reason], ["deny", "EDQUOT", "too many"]);
});

for (const thrown of [new Error("secret /etc/shadow"), "secret text", undefined, null, { code: -1, message: "secret" }])
  test(`a bug (${inspect(thrown).split("\n")[0]}) leaks nothing but the number of its record`, async () => {
    work = () => {
      throw thrown;
    };
    const { response, record } = await ask("status");
    assert.equal(response?.error?.code, -32603);
    assert.equal(response.error.message, "Internal error");
    assert.doesNotMatch(JSON.stringify(response), /secret|shadow|at .*\.js/);
    assert.deepEqual(Object.keys(response.error.data as object).toSorted(), ["auditSeq", "code", "reason"]);
    assert.equal((response.error.data as { auditSeq: number }).auditSeq, NEXT_SEQ);
    assert.deepEqual([record.decision, record.code], ["error", "EINTERNAL"]);
    if (thrown instanceof Error) assert.match(record.reason ?? "", /secret/, "the record has the details");
    assert.equal(logged.length, 1);
    assert.match(logged[0] as string, /"auditSeq":42/);
  });

test("admission comes first: before the method, the schema and the fault", async () => {
  admit = () => {
    throw refusal("EAGAIN", "slow down", { retryAfterMs: 5 });
  };
  for (const text of ['{"jsonrpc":"2.0","method":"nope","id":1}', "nonsense", '{"jsonrpc":"2.0","method":"bind","id":1}']) {
    const { response, record } = await call_of(text);
    assert.equal(response?.error?.code, ERRORS.EAGAIN.code, text);
    assert.deepEqual([record.decision, record.code], ["deny", "EAGAIN"]);
  }
});

test("an unknown method's name is cut for the record", async () => {
  assert.equal((await ask("m".repeat(5000))).record.method?.length, 64);
});

test("refuse and error_response: JSON-RPC's numbers have no name", () => {
  const call = { record: {}, response: undefined } as unknown as Call;
  refuse(call, new LowportError(-32600, { reason: "why" }));
  assert.deepEqual(call.response, error_response(null, new LowportError(-32600, { reason: "why" })));
  assert.equal(call.response?.error?.message, "Invalid Request");
  assert.equal(call.record.code, -32600);
});

test("whatever comes, the promise is kept and a request with an id is answered with it", async () => {
  work = () => {
    throw new Error("boom");
  };
  const any_request = fc.record(
    {
      jsonrpc: fc.constant("2.0"),
      method: fc.oneof(fc.constantFrom(...names), fc.string()),
      params: fc.oneof(fc.object({ maxDepth: 1 }), fc.record({ protocol: fc.constant("tcp"), port: fc.nat() })),
      id: fc.oneof(fc.string(), fc.maxSafeInteger()),
    },
    { requiredKeys: ["jsonrpc", "method"] },
  );
  await fc.assert(
    fc.asyncProperty(any_request, async (request) => {
      const { response, record } = await call_of(JSON.stringify(request));
      const [answered, decided] = [response !== undefined, record.decision !== undefined];
      assert.deepEqual([answered, decided], [request.id !== undefined, true]);
      if (answered) assert.equal(response?.id, request.id);
    }),
    { numRuns: 300 },
  );
});

/** What a call does when it must wait for sockets that are closed elsewhere. */
const waiting = () => {
  let open: () => void = () => undefined;
  const closed = new Promise<void>((resolve) => (open = resolve));
  settled = () => closed;
  return () => open();
};

test("an address that is in use by what is just being closed is asked for once more, and once only", async () => {
  const open = waiting();
  let asked = 0;
  work = () => {
    if (++asked === 1) throw refusal("EADDRINUSE", "taken");
    return { fine: true };
  };
  const answer = ask("status");
  open();
  const { response, record } = await answer;
  assert.deepEqual([response?.result, record.decision, record.code, asked], [{ fine: true }, "allow", undefined, 2]);
  work = () => {
    asked++;
    throw refusal("EADDRINUSE", "taken");
  };
  assert.deepEqual([(await ask("status")).record.code, asked], ["EADDRINUSE", 4]);
});

test("who has gone while it waited gets nothing", async () => {
  const open = waiting();
  let asked = 0;
  work = () => {
    asked++;
    throw refusal("EADDRINUSE", "taken");
  };
  const answer = ask("status");
  admit = () => {
    throw refusal("ESHUTDOWN", "gone");
  };
  open();
  assert.deepEqual([(await answer).record.code, asked], ["ESHUTDOWN", 1]);
});

test("a reply waits for sockets that are being closed", async () => {
  const open = waiting();
  let answered = false;
  const answer = ask("release", { lease: "abc" }).then(() => (answered = true));
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(answered, false);
  open();
  assert.equal(await answer, true);
});
