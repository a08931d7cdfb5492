/**
 * Promise: the table of methods is the whole attack surface, and each method is open to exactly whom protocol.md says:
 * tried for a user without a rule, with a rule for something else, with the right rule, and an operator. A method that is
 * added without a line here fails the last test.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { METHODS } from "../../shared/methods.js";
import { enter_box, USERS } from "./box.js";
import { start_helper, WEB_RULE } from "./helper-process.js";
import { Peer, type Reply, type Wire } from "./peer.js";

await enter_box(import.meta.url);

const RULES = [
  { ...WEB_RULE, users: ["alice"], groups: [] },
  { ...WEB_RULE, name: "dns", users: ["bob"], groups: [], protocols: ["udp"], ports: [53] },
];
/** carol has no rule, bob one for something else, alice the right one; olaf is an operator without a rule. */
const WHO = { "no rule": USERS.carol, "wrong rule": USERS.bob, "right rule": USERS.alice, operator: USERS.olaf };
type Position = keyof typeof WHO;

/** "ok", or the name or number of the error. */
type Answer = string;

interface Row {
  /** Params; `lease` is one of alice's, active on another connection. */
  readonly params: (lease: string) => object | undefined;
  readonly answers: Record<Position, Answer>;
  /** What the result must look like. */
  readonly check?: (reply: Reply, position: Position) => void;
}

const all = (answer: Answer): Record<Position, Answer> => ({
  "no rule": answer,
  "wrong rule": answer,
  "right rule": answer,
  operator: answer,
});
const only_operator: Record<Position, Answer> = { ...all("EACCES"), operator: "ok" };

const TABLE: Record<string, Row[]> = {
  bind: [{ params: () => ({ protocol: "tcp", port: 80 }), answers: { ...all("EACCES"), "right rule": "ok" } }],
  release: [
    { params: (lease) => ({ lease }), answers: { ...all("ENOENT"), "right rule": "ok", operator: "ok" } },
    { params: () => ({ lease: "nosuch" }), answers: all("ENOENT") },
  ],
  list: [
    {
      params: () => undefined,
      answers: all("ok"),
      check: ({ result }, position) => {
        const sees = position === "right rule" || position === "operator";
        assert.equal(result.leases.length, sees ? 1 : 0);
      },
    },
  ],
  check: [
    {
      params: () => ({ protocol: "tcp", port: 80 }),
      answers: all("ok"),
      check: ({ result }, position) => {
        const { allowed, rule, reason, ...more } = result;
        assert.equal(allowed, position === "right rule");
        assert.equal(rule, position === "right rule" ? "web" : null);
        assert.equal(typeof reason, "string");
        assert.deepEqual(more, {});
      },
    },
    {
      params: () => ({ protocol: "tcp", port: 80, uid: USERS.alice.uid }),
      answers: { ...only_operator, "right rule": "ok" },
      check: ({ result }) => assert.equal(result.allowed, true),
    },
    {
      params: () => ({ protocol: "tcp", port: 80, uid: 0 }),
      answers: only_operator,
      check: ({ result }) => assert.equal(result.allowed, false),
    },
  ],
  revoke: [
    { params: (lease) => ({ lease }), answers: only_operator },
    { params: () => ({ lease: "nosuch" }), answers: { ...all("EACCES"), operator: "ENOENT" } },
  ],
  status: [
    {
      params: () => undefined,
      answers: all("ok"),
      check: ({ result }, position) => {
        const { uid, gid, groups } = WHO[position];
        assert.deepEqual(result.you, { uid, gid, groups: [...groups], operator: position === "operator" });
        assert.equal(result.protocolVersion, 1);
        assert.equal(result.leases, 1);
        assert.equal(result.connections, 2);
        assert.match(result.policyLoadedAt, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
        for (const name of ["pid", "uptimeSeconds", "auditSeq"]) assert.ok(Number.isInteger(result[name]), name);
        assert.deepEqual(Object.keys(result), Object.keys(METHODS.status.result.properties));
      },
    },
  ],
  "rpc.discover": [
    {
      params: () => undefined,
      answers: all("ok"),
      check: ({ result }) => {
        assert.equal(typeof result.openrpc, "string");
        assert.deepEqual(
          result.methods.map((method: { name: string }) => method.name),
          Object.keys(METHODS),
        );
      },
    },
  ],
};

for (const [method, rows] of Object.entries(TABLE))
  for (const [i, { params, answers, check }] of rows.entries())
    test(`${method} (${i + 1}) is open to whom it should be, and to nobody else`, async (t) => {
      const helper = await start_helper(t, { rules: RULES });
      const owner = await Peer.start(t, USERS.alice);
      for (const [position, user] of Object.entries(WHO) as [Position, (typeof WHO)[Position]][]) {
        const other = await owner.connect();
        const { lease, fd } = await other.bind({ port: 443 });
        const wire: Wire = await (await Peer.start(t, user)).connect();
        const reply = await wire.ask(method, params(lease));
        const answer = reply.error === undefined ? "ok" : (reply.error.data?.["code"] ?? reply.error.code);
        assert.equal(answer, answers[position], `${position}: ${JSON.stringify(reply)}`);
        if (answer === "ok") check?.(reply, position);
        const record = await helper.recorded("the call", (line) => line.peer?.uid === user.uid && line.method === method);
        assert.equal(record.decision, answer === "ok" ? "allow" : "deny");
        await wire.peer.kill();
        await other.close();
        await owner.close(fd);
        await helper.recorded("the end of the lease", (line) => line.event === "lease-end" && line.lease === lease);
        await helper.recorded("the disconnect", (line) => line.event === "disconnect" && line.conn === record.conn);
      }
    });

test("every method of the interface stands in this table, and no other can be called", async (t) => {
  assert.deepEqual(Object.keys(TABLE).sort(), Object.keys(METHODS).sort());
  await start_helper(t);
  const wire = await (await Peer.start(t, USERS.olaf)).connect();
  for (const name of ["constructor", "toString", "__proto__", "rpc", "rpc.", "Bind", "bind ", "", "rpc_discover"])
    await wire.refused(name, {}, -32601);
});
