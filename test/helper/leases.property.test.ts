/** Leases under random sequences of operations: what the accounts say is what is there, and no descriptor is lost. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { Accounts } from "../../helper/account.js";
import type { Granted, Lease } from "../../helper/lease.js";
import { LeaseTable } from "../../helper/leases.js";
import { new_id } from "../../helper/new-id.js";
import { LowportError, refusal } from "../../shared/errors.js";
import { native } from "../../shared/native.js";
import { LIMITS } from "../../shared/protocol.js";
import { count_descriptors, free_port, peer } from "../fixtures.js";

const UIDS = [1, 2] as const;
const PORTS = [free_port(), free_port()] as const;
const MAX_SOCKETS = 4;
/** The holders: two connections of each user. */
const HOLDERS = UIDS.flatMap((uid) => [{ uid }, { uid }]);

const operation = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("grant" as const),
      who: fc.nat(HOLDERS.length - 1),
      port: fc.constantFrom(...PORTS),
      address: fc.constantFrom("127.0.0.1", "127.0.0.2", "0.0.0.0"),
      protocol: fc.constantFrom("tcp" as const, "udp" as const),
      share: fc.boolean(),
      reusePort: fc.boolean(),
      hold: fc.constantFrom(0, 1000),
    }),
  },
  fc.record({ kind: fc.constantFrom("leave" as const), who: fc.nat(HOLDERS.length - 1) }),
  fc.record({
    kind: fc.constantFrom("release" as const, "revoke" as const, "end" as const, "shutdown" as const),
    who: fc.nat(HOLDERS.length - 1),
    lease: fc.nat(20),
  }),
  fc.record({ kind: fc.constant("undo" as const) }),
);

/** Every reference of every lease, a held one as one, by user and by rule. */
function check(table: LeaseTable, accounts: Accounts, descriptors: number): void {
  const leases = [...table.byId.values()];
  assert.equal(leases.length, table.byId.size);
  for (const uid of UIDS) {
    const account = accounts.of(uid, LIMITS);
    const own = leases.filter((lease) => lease.account === account);
    const count = (some: Lease[]) =>
      some.reduce(
        (sum, { references }) =>
          sum +
          Math.max(
            1,
            [...references.values()].reduce((a, b) => a + b, 0),
          ),
        0,
      );
    assert.equal(account.sockets, count(own), `sockets of uid ${uid}`);
    const rules = new Map(
      [...new Set(own.map(({ rule }) => rule))].map((rule) => [rule, count(own.filter((l) => l.rule === rule))]),
    );
    assert.deepEqual(account.byRule, rules);
    assert.ok(account.sockets <= MAX_SOCKETS);
  }
  for (const lease of leases) {
    assert.equal(table.byId.get(lease.id), lease);
    assert.equal(lease.timer !== undefined && lease.references.size === 0, lease.references.size === 0, "held: a timer runs");
    for (const [holder, references] of lease.references) {
      assert.ok(references > 0);
      assert.equal((holder as { uid: number }).uid, lease.peer.uid, "a lease never changes its user");
    }
    assert.equal((native().socketInfo(lease.fd) as unknown[])[2], lease.port);
  }
  assert.equal(count_descriptors() - descriptors, leases.length, "one descriptor a lease");
}

test("random operations of two users on two ports", () => {
  new_id(); // opens what stays open
  const descriptors = count_descriptors();
  let granted = 0;
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 30 }), (operations) => {
      const accounts = new Accounts();
      const ended = new Set<Lease>();
      const table = new LeaseTable((lease) => {
        assert.ok(!ended.has(lease), "it ends once");
        ended.add(lease);
      });
      /** What may still be undone: the grants since the last other operation, as in one turn of the server. */
      let turn: Granted[] = [];
      for (const step of operations) {
        const holder = HOLDERS["who" in step ? step.who : 0] as { uid: number };
        const lease = "lease" in step ? [...table.byId.values()][step.lease] : undefined;
        try {
          if (step.kind === "grant") {
            const { port, address, protocol, share, reusePort, hold } = step;
            const account = accounts.of(holder.uid, LIMITS);
            const check_quota = () => {
              if (account.sockets >= MAX_SOCKETS) throw refusal("EDQUOT", "all");
            };
            turn.push(
              table.grant({
                ...{ port, address, protocol, share, reusePort, hold, holder, account, check_quota },
                ...{ ipv6Only: false, backlog: 8, peer: peer(holder.uid), rule: protocol, label: "" },
              }),
            );
            granted++;
          } else if (step.kind === "undo") for (const { undo } of turn.splice(0).toReversed()) undo();
          else {
            turn = [];
            if (step.kind === "leave") table.leave(holder);
            else if (lease !== undefined && step.kind === "release") table.release(lease, holder);
            else if (lease !== undefined && step.kind === "revoke") table.revoke(lease, "revoked");
            else if (lease !== undefined && step.kind === "end") table.end(lease, "ended");
            else if (lease?.protocol === "tcp") native().revokeSocket(lease.fd);
          }
        } catch (error) {
          if (!(error instanceof LowportError)) throw error;
        }
        check(table, accounts, descriptors);
      }
      for (const lease of [...table.byId.values()]) table.end(lease, "over");
      check(table, accounts, descriptors);
    }),
    { numRuns: 300 },
  );
  assert.ok(granted > 300, `the sequences grant something: ${granted}`);
});
