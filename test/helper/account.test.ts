/** Budgets of users: the token bucket with a clock of our own, counting sockets, and forgetting who has nothing. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import * as fc from "fast-check";
import { type Account, Accounts, count_socket, take_tokens } from "../../helper/account.js";
import { uptime_ms } from "../../shared/clock.js";
import { LIMITS } from "../../shared/protocol.js";

const limits = { ...LIMITS, requestsPerSecond: 10, requestBurst: 5 };

/** Stands still until told to go on. */
function stop_clock(t: TestContext): (ms: number) => void {
  let now = Math.ceil(process.uptime()) * 1000; // whole, so that sums are exact
  const exact = (seconds: number): number => (seconds * 1000 >= now ? seconds : exact(seconds * (1 + Number.EPSILON)));
  t.mock.method(process, "uptime", () => exact(now / 1000));
  return (ms) => {
    now += ms;
  };
}

/** Takes as long as it is let, and one more, which is refused and costs its token too. */
function drain(account: Account): number {
  let taken = 0;
  while (take_tokens(account, limits) === 0) taken++;
  return taken;
}

test("a bucket starts full, empties, and fills at its rate up to the burst", (t) => {
  const pass = stop_clock(t);
  const account = new Accounts().of(1, limits);
  assert.equal(drain(account), 5);
  assert.equal(take_tokens(account, limits), 300, "milliseconds until the two refused are paid and there is one more");
  pass(300);
  assert.equal(drain(account), 1);
  pass(200 + 250);
  assert.equal(drain(account), 3, "the refused one is paid out of 4.5");
  pass(3_600_000);
  assert.equal(drain(account), 5);
});

test("refusals are paid for: a user who floods is in debt, which has an end", (t) => {
  const pass = stop_clock(t);
  const account = new Accounts().of(1, limits);
  for (let i = 0; i < 1000; i++) take_tokens(account, limits);
  assert.equal(account.tokens, -limits.requestBurst, "not more than a burst");
  assert.equal(take_tokens(account, limits, 50), 600);
  assert.equal(account.pausedUntil, uptime_ms() + 600);
  pass(600);
  assert.equal(take_tokens(account, limits), 0);
});

test("what costs more is let through once and paid later", (t) => {
  stop_clock(t);
  const account = new Accounts().of(1, limits);
  assert.equal(take_tokens(account, limits, 8), 0);
  assert.equal(account.tokens, -3);
  assert.equal(take_tokens(account, limits), 500);
});

test("waiting as long as was said is enough, and over any time no more than burst + rate is given", (t) => {
  const pass = stop_clock(t);
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 300 }), { maxLength: 100 }), (pauses) => {
      const account = new Accounts().of(1, limits);
      let passed = 0;
      let given = 0;
      for (const ms of pauses) {
        pass(ms);
        passed += ms;
        const wait = take_tokens(account, limits);
        if (wait === 0) given++;
        else {
          assert.ok(wait > 0 && wait <= 200, String(wait));
          pass(wait);
          passed += wait;
          assert.equal(take_tokens(account, limits), 0);
          given++;
        }
      }
      assert.ok(given <= limits.requestBurst + (passed / 1000) * limits.requestsPerSecond + 1e-6);
    }),
  );
});

test("a lower burst after a reload holds at once", () => {
  const account = new Accounts().of(1, limits);
  assert.equal(take_tokens(account, { ...limits, requestBurst: 1 }), 0);
  assert.ok(take_tokens(account, { ...limits, requestBurst: 1 }) > 0);
});

test("one user has one account, whatever its connections", () => {
  const accounts = new Accounts();
  assert.equal(accounts.of(1, limits), accounts.of(1, limits));
  assert.notEqual(accounts.of(1, limits), accounts.of(2, limits));
});

test("idle accounts are forgotten; those with a connection, a socket or an empty bucket are not", (t) => {
  stop_clock(t);
  const accounts = new Accounts();
  const connected = accounts.of(1, limits);
  connected.connections = 1;
  const holding = accounts.of(2, limits);
  count_socket(holding, "web", 1);
  const spent = accounts.of(3, limits);
  drain(spent);
  const idle = accounts.of(4, limits);
  for (let uid = 10; uid < 10 + 4096; uid++) accounts.of(uid, limits);
  assert.equal(accounts.of(1, limits), connected);
  assert.equal(accounts.of(2, limits), holding);
  assert.equal(accounts.of(3, limits), spent, "else a new account would be a new bucket");
  assert.notEqual(accounts.of(4, limits), idle);
});

test("sockets are counted in all and by rule; a rule with none is not kept", () => {
  const account = new Accounts().of(1, limits);
  count_socket(account, "a", 1);
  count_socket(account, "a", 1);
  count_socket(account, "b", 1);
  assert.deepEqual(
    [account.sockets, [...account.byRule]],
    [
      3,
      [
        ["a", 2],
        ["b", 1],
      ],
    ],
  );
  count_socket(account, "a", -1);
  count_socket(account, "b", -1);
  assert.deepEqual([account.sockets, [...account.byRule]], [1, [["a", 1]]]);
});

test("a socket that takes two rules counts under both", () => {
  const account = new Accounts().of(1, limits);
  count_socket(account, "v6", 1, "v4");
  count_socket(account, "v6", 1);
  assert.deepEqual(
    [account.sockets, [...account.byRule]],
    [
      2,
      [
        ["v6", 2],
        ["v4", 1],
      ],
    ],
  );
  count_socket(account, "v6", -1, "v4");
  assert.deepEqual([account.sockets, [...account.byRule]], [1, [["v6", 1]]]);
});
