/** Each method against each kind of caller: no rule, a wrong rule, the right rule, an operator. A method that has no entry
 * here fails. Then what single methods take and give. */
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { Accounts } from "../../helper/account.js";
import type { Call } from "../../helper/calls.js";
import { LeaseTable } from "../../helper/leases.js";
import { is_operator, make_handlers, type World } from "../../helper/methods.js";
import type { Peer } from "../../helper/policy.js";
import { type ErrorData, LowportError } from "../../shared/errors.js";
import { METHODS, type MethodName, type Params } from "../../shared/methods.js";
import { LIMITS, VERSION } from "../../shared/protocol.js";
import { free_port, peer, rule_entry } from "../fixtures.js";
import { make_config } from "./world.js";

const [OPERATOR, RIGHT, WRONG, NONE] = [1, 2, 3, 4] as const;
const port = free_port();
const leases = new LeaseTable(() => undefined);
let accounts = new Accounts();
const recorded: string[] = [];
const world: World = {
  config: make_config(
    [
      rule_entry({ users: [RIGHT], ports: [port], addresses: ["127.0.0.1"], maxSockets: 2, maxHoldSeconds: 10 }),
      rule_entry({ name: "other", users: [WRONG], ports: [port === 1 ? 2 : 1] }),
      rule_entry({ name: "strict", users: [5], ports: [port], share: false }),
    ],
    { socketsPerUid: 3 },
    [OPERATOR],
  ),
  leases,
  policyLoadedAt: new Date(0),
  connections: () => 7,
  audit_seq: () => 8,
  record_now: ({ record }) => recorded.push(record.lease ?? "?"),
};
const handlers = make_handlers(world);

afterEach(() => {
  for (const lease of [...leases.byId.values()]) leases.end(lease, "over");
  accounts = new Accounts();
  recorded.length = 0;
});

interface Answer {
  readonly code: string;
  readonly result: Record<string, unknown>;
  readonly state: Call;
  readonly data?: ErrorData;
}

function call<M extends MethodName>(method: M, who: Peer | number, params: Params<M>): Answer {
  const by = typeof who === "number" ? peer(who) : who;
  const caller = { number: 1, peer: by, account: accounts.of(by.uid, LIMITS) };
  const state: Call = { caller, record: { event: "call" }, response: undefined };
  const run = handlers[method] as (params: Params<M>, call: Call) => object;
  try {
    return { code: "ok", result: run(params, state) as Record<string, unknown>, state };
  } catch (error) {
    assert.ok(error instanceof LowportError, String(error));
    return { code: error.data.code ?? String(error.number), result: {}, state, data: error.data };
  }
}
const wanted = { protocol: "tcp", port, address: "127.0.0.1" } as const;
const lease_of = (uid: number) => call("bind", uid, wanted).result["lease"] as string;

/** What each kind of caller gets; the lease is the right user's. */
const EXPECTED: Record<MethodName, [none: string, wrong: string, right: string, operator: string]> = {
  bind: ["EACCES", "EACCES", "ok", "EACCES"],
  release: ["ENOENT", "ENOENT", "ok", "ok"],
  list: ["ok", "ok", "ok", "ok"],
  check: ["ok", "ok", "ok", "ok"],
  revoke: ["EACCES", "EACCES", "EACCES", "ok"],
  status: ["ok", "ok", "ok", "ok"],
  "rpc.discover": ["ok", "ok", "ok", "ok"],
};

test("every method of the table has its entry here", () => {
  assert.deepEqual(Object.keys(EXPECTED).toSorted(), Object.keys(METHODS).toSorted());
  assert.deepEqual(Object.keys(handlers).toSorted(), Object.keys(METHODS).toSorted());
});

for (const [method, expected] of Object.entries(EXPECTED) as [MethodName, string[]][])
  for (const [i, who] of [NONE, WRONG, RIGHT, OPERATOR].entries())
    test(`${method} by ${["no rule", "a wrong rule", "the right rule", "an operator"][i]}: ${expected[i]}`, () => {
      const lease = ["release", "revoke"].includes(method) ? lease_of(RIGHT) : "";
      const params = { bind: wanted, check: wanted, release: { lease }, revoke: { lease } }[method as string] ?? {};
      const before = leases.byId.size;
      const { code, data } = call(method, who, params as never);
      assert.equal(code, expected[i], data?.reason);
      if (code !== "ok") assert.equal(leases.byId.size, before, "a refusal changes nothing");
    });

test("an operator is one by uid or by group, and never if unmapped", () => {
  const config = { ...world.config, operators: { uids: new Set([9]), gids: new Set([8]) } };
  const cases: [Peer, boolean][] = [
    [peer(9), true],
    [peer(7, [8]), true],
    [{ ...peer(7), gid: 8 }, true],
    [peer(8), true],
    [{ ...peer(1), gid: 2 }, false],
    [{ ...peer(9), unmapped: true }, false],
    [peer(0), false],
  ];
  for (const [who, is] of cases) assert.equal(is_operator(config, who), is, JSON.stringify(who));
});

test("bind: any spelling of the address is one address, and what stands on record is the rule and the lease", () => {
  const { result, state } = call("bind", RIGHT, { ...wanted, address: "::FFFF:7f00:1", ipv6Only: true, label: "a" });
  assert.deepEqual([result["address"], result["port"], result["fds"]], ["127.0.0.1", port, 1]);
  assert.deepEqual([state.record.rule, state.record.lease, state.lease?.id], ["web", result["lease"], result["lease"]]);
  assert.equal(call("bind", RIGHT, wanted).code, "EADDRINUSE");
  state.undo?.();
  assert.equal(leases.byId.size, 0);
});

test("bind: what is no address", () => {
  for (const address of ["1.2.3", "::1::", "....", "999.1.1.1"]) {
    const { code, data } = call("bind", RIGHT, { ...wanted, address });
    assert.deepEqual([code, data?.path], ["-32602", "/address"]);
  }
});

test("bind: the rule's limits: options, hold, sockets; then the helper's", () => {
  assert.equal(call("bind", RIGHT, { ...wanted, reusePort: true }).code, "EACCES");
  assert.equal(call("bind", 5, { ...wanted, share: true }).code, "EACCES");
  assert.equal(call("bind", 5, wanted).code, "ok");
  for (const lease of [...leases.byId.values()]) leases.end(lease, "over");
  const { code, data } = call("bind", RIGHT, { ...wanted, hold: 11 });
  assert.deepEqual([code, data?.limit, data?.max], ["EDQUOT", "maxHoldSeconds", 10]);
  for (let i = 0; i < 2; i++) assert.equal(call("bind", RIGHT, { ...wanted, share: true, hold: 10 }).code, "ok");
  const over = call("bind", RIGHT, { ...wanted, share: true });
  assert.deepEqual([over.code, over.data?.limit, over.data?.max], ["EDQUOT", "maxSockets", 2]);
  accounts.of(RIGHT, LIMITS).sockets = 3;
  const all = call("bind", RIGHT, { ...wanted, share: true });
  assert.deepEqual([all.code, all.data?.limit, all.data?.max], ["EDQUOT", "socketsPerUid", 3]);
  accounts.of(RIGHT, LIMITS).sockets = 2;
});

test("list: one's own, or all for an operator, with every member of its schema", () => {
  const lease = call("bind", RIGHT, { ...wanted, label: "a", hold: 3 }).result["lease"];
  const list = (uid: number) => call("list", uid, {}).result["leases"] as Record<string, unknown>[];
  assert.deepEqual([list(WRONG).length, list(RIGHT).length, list(OPERATOR).length], [0, 1, 1]);
  const { since, ...entry } = list(RIGHT)[0] ?? {};
  assert.deepEqual(entry, { lease, uid: RIGHT, ...wanted, state: "active", label: "a", hold: 3 });
  assert.match(String(since), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  const [held] = [...leases.byId.values()];
  for (const holder of held?.references.keys() ?? []) leases.leave(holder);
  assert.equal(list(RIGHT)[0]?.["state"], "held");
});

test("check: for oneself, and only an operator for another", () => {
  assert.deepEqual(Object.keys(call("check", RIGHT, wanted).result).toSorted(), ["allowed", "reason", "rule"]);
  assert.deepEqual([call("check", RIGHT, wanted).result["rule"], call("check", NONE, wanted).result["rule"]], ["web", null]);
  assert.equal(call("check", NONE, { ...wanted, uid: RIGHT }).code, "EACCES");
  assert.equal(call("check", RIGHT, { ...wanted, uid: RIGHT }).result["allowed"], true);
  assert.equal(call("check", OPERATOR, { ...wanted, uid: RIGHT }).result["allowed"], true);
  assert.equal(call("check", OPERATOR, { ...wanted, uid: NONE }).result["allowed"], false);
  assert.equal(leases.byId.size, 0, "it binds nothing");
});

test("release and revoke are recorded before they take effect, for they cannot be undone", () => {
  for (const method of ["release", "revoke"] as const) {
    const lease = lease_of(RIGHT);
    assert.deepEqual(call(method, OPERATOR, { lease }).result, { [`${method}d`]: true });
    assert.deepEqual([recorded.at(-1), leases.byId.get(lease)], [lease, undefined]);
    assert.equal(call(method, OPERATOR, { lease }).code, "ENOENT");
  }
});

test("a record that cannot be written prevents a release", () => {
  const lease = lease_of(RIGHT);
  const strict = make_handlers({
    ...world,
    record_now: () => {
      throw new LowportError(7, { code: "EIO", reason: "full" });
    },
  });
  const caller = { number: 1, peer: peer(OPERATOR), account: accounts.of(OPERATOR, LIMITS) };
  const state: Call = { caller, record: { event: "call" }, response: undefined };
  for (const method of ["release", "revoke"] as const) assert.throws(() => strict[method]({ lease }, state), { message: "full" });
  assert.ok(leases.byId.get(lease));
});

test("status and rpc.discover", () => {
  const { uptimeSeconds, ...status } = call("status", peer(RIGHT, [7]), {}).result;
  assert.ok(Number.isInteger(uptimeSeconds));
  assert.deepEqual(status, {
    ...{ version: VERSION, protocolVersion: 1, pid: process.pid, connections: 7, leases: 0, auditSeq: 8 },
    policyLoadedAt: "1970-01-01T00:00:00.000Z",
    you: { uid: RIGHT, gid: RIGHT, groups: [7], operator: false },
  });
  assert.equal(call("rpc.discover", NONE, {}).result["openrpc"], "1.3.2");
  assert.equal(call("rpc.discover", NONE, {}).result, call("rpc.discover", NONE, {}).result, "replies that wait share it");
});
