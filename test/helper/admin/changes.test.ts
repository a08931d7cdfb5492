/** The engine of install: all changes or none, also when a signal comes, and it is said what could not be undone. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Change, make_changes, Undone } from "../../../helper/admin/changes.js";

/** Changes that write down what is done with them. */
function recorded() {
  const log: string[] = [];
  const change = (name: string, over: Partial<Change> = {}): Change => ({
    says: name,
    apply: () => void log.push(`apply ${name}`),
    undo: () => void log.push(`undo ${name}`),
    finish: () => void log.push(`finish ${name}`),
    ...over,
  });
  return { log, change, say: (line: string) => void log.push(line) };
}
const never = new AbortController().signal;
const quiet = () => undefined;
function fail(message: string): never {
  throw new Error(message);
}

test("all are made in order, and finished when all are made", async () => {
  const { log, change } = recorded();
  assert.deepEqual(await make_changes([change("one"), change("two")], never, quiet), []);
  assert.deepEqual(log, ["apply one", "apply two", "finish one", "finish two"]);
});

test("each is announced before it is made; what only can be undone is not", async () => {
  const { log, change, say } = recorded();
  await make_changes([{ says: "ready", undo: quiet }, change("one", { finish: quiet })], never, say);
  assert.deepEqual(log, ["one", "apply one"]);
});

test("a failure undoes in reverse, the one that failed too, and nothing is finished", async () => {
  const { log, change } = recorded();
  const changes = [change("one"), change("two", { apply: () => fail("no room") }), change("three")];
  await assert.rejects(make_changes(changes, never, quiet), (error) => {
    assert.ok(error instanceof Undone);
    assert.equal(error.message, "no room");
    assert.deepEqual(error.left, []);
    return true;
  });
  assert.deepEqual(log, ["apply one", "undo two", "undo one"]);
});

test("a rejected promise is a failure", async () => {
  const { log, change } = recorded();
  await assert.rejects(make_changes([change("one"), change("two", { apply: async () => fail("late") })], never, quiet), /late/);
  assert.deepEqual(log, ["apply one", "undo two", "undo one"]);
});

test("what cannot be undone is told, and the rest is undone all the same", async () => {
  const { log, change } = recorded();
  const changes = [
    change("one"),
    change("two", { undo: async () => fail("stuck") }),
    change("three", { apply: () => fail("no") }),
  ];
  await assert.rejects(make_changes(changes, never, quiet), (error) => {
    assert.deepEqual((error as Undone).left, ["two: cannot be undone: stuck"]);
    return true;
  });
  assert.deepEqual(log, ["apply one", "apply two", "undo three", "undo one"]);
});

test("what could not be undone at once is tried again at the end", async () => {
  const { log, change } = recorded();
  let full = true;
  const undo = () => void (full ? fail("no room") : log.push("undo two"));
  const changes = [
    change("one", { undo: () => void (full = false) }),
    change("two", { undo }),
    change("three", { apply: () => fail("no") }),
  ];
  await assert.rejects(make_changes(changes, never, quiet), (error) => {
    assert.deepEqual((error as Undone).left, []);
    return true;
  });
  assert.equal(log.at(-1), "undo two");
});

test("a signal is heard between two changes, and also after the last", async () => {
  for (const last of [true, false]) {
    const { log, change } = recorded();
    const stop = new AbortController();
    const interrupted = change("one", { apply: () => stop.abort(new Error("stopped by SIGINT")) });
    await assert.rejects(
      make_changes(last ? [interrupted] : [interrupted, change("two")], stop.signal, quiet),
      /stopped by SIGINT/,
    );
    assert.deepEqual(log, ["undo one"]);
  }
});

test("a signal that the system delivers is heard too", async () => {
  const { log, change } = recorded();
  const stop = new AbortController();
  const hear = () => stop.abort(new Error("stopped by SIGTERM"));
  process.once("SIGTERM", hear);
  const changes = [change("one", { apply: () => void process.kill(process.pid, "SIGTERM") }), change("two"), change("three")];
  await assert.rejects(make_changes(changes, stop.signal, quiet), /stopped by SIGTERM/);
  process.off("SIGTERM", hear);
  assert.equal(log.includes("apply three"), false);
  assert.equal(log.at(-1), "undo one");
});

test("what goes wrong at the end is told; the changes are made", async () => {
  const { change } = recorded();
  assert.deepEqual(await make_changes([change("one", { finish: () => fail("busy") })], never, quiet), ["one: busy"]);
});
