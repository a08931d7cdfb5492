/** Leases that are given back: what is sent again, and what is not any more. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Returns } from "../../client/returns.js";
import type { LeaseEntry } from "../../shared/methods.js";

const lease = (name: string, port: number) => ({ lease: name, protocol: "tcp", port }) as const;
const held = (name: string) => ({ lease: name, state: "held" }) as LeaseEntry;

test("what could not be sent is sent after the next connection, if it is held still", () => {
  const sent: string[] = [];
  let connected = false;
  const returns = new Returns(({ lease: name }) => connected && sent.push(name) > 0);
  returns.give(lease("a", 80));
  returns.give(lease("b", 81));
  connected = true;
  returns.after_reconnect([held("a")]);
  assert.deepEqual(sent, ["a"]);
});

test("a lease whose port is asked for again meanwhile is not given back: that may have resumed it", () => {
  const sent: string[] = [];
  let connected = false;
  const returns = new Returns(({ lease: name }) => connected && sent.push(name) > 0);
  returns.give(lease("a", 80));
  returns.give(lease("b", 81));
  connected = true;
  returns.before({ protocol: "tcp", port: 80 });
  returns.after_reconnect([held("a"), held("b")]);
  assert.deepEqual(sent, ["b"]);
});
