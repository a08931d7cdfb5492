/** The audit log: the chain as the protocol has it, records that are owed or lost, fsync's order, and rotation. */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, renameSync, rmdirSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import * as fc from "fast-check";
import { AuditLog, type AuditRecord, type Fate } from "../../helper/audit.js";
import { FIRST_PREV, unseal } from "../../shared/chain.js";
import { count_descriptors, DIST, peer, run_module, temp_folder } from "../fixtures.js";

const new_path = () => join(temp_folder(), "audit.log");

/** The records of a file, its chain checked from `prev` on. */
function read_chain(path: string, prev = FIRST_PREV, seq = 0): Record<string, unknown>[] {
  const text = readFileSync(path, "utf8");
  assert.ok(text === "" || text.endsWith("\n"));
  return text
    .split("\n")
    .slice(0, -1)
    .map((line) => {
      const found = unseal(Buffer.from(line));
      assert.ok(found, line);
      assert.deepEqual([found.prev, found.seq], [prev, ++seq]);
      prev = found.hash;
      return found.record;
    });
}
const reasons = (path: string) => read_chain(path).map(({ reason }) => reason);

test("a line has its members in the protocol's order and none that does not apply", () => {
  const path = new_path();
  const audit = new AuditLog(path, "write");
  const full: Required<AuditRecord> = {
    ...{ durationUs: 5, lease: "l", reason: "r", code: "EACCES", rule: "web", decision: "deny", params: { port: 1 } },
    ...{ id: "i", method: "bind", conn: 3, peer: { ...peer(33, [4]), unmapped: true }, event: "call" },
  };
  audit.stage(full);
  audit.stage({ event: "stop", reason: undefined });
  audit.write();
  const [call = {}, stop = {}] = read_chain(path);
  const order = "seq time event peer conn method id params decision rule code reason lease durationUs prev".split(" ");
  assert.deepEqual(Object.keys(call), order);
  assert.deepEqual(call["peer"], { pid: 1, uid: 33, gid: 33, groups: [4] });
  assert.deepEqual(Object.keys(stop), ["seq", "time", "event", "prev"]);
  assert.match(String(call["time"]), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  assert.match(readFileSync(path, "utf8").split("\n")[0] as string, /^\{"seq":1,.*,"hash":"[0-9a-f]{64}"\}$/);
});

test("whatever a peer says stays in its line", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), fc.jsonValue(), (text, value) => {
      const path = new_path();
      const audit = new AuditLog(path, "write");
      audit.stage({
        event: "call",
        method: text,
        id: text,
        reason: text,
        params: { level: value, seq: -1, hash: text },
      });
      audit.write();
      const [record = {}] = read_chain(path);
      assert.deepEqual([record["seq"], record["event"]], [1, "call"]);
      assert.deepEqual(record["params"], JSON.parse(JSON.stringify({ level: value, seq: -1, hash: text })));
      audit.reopen();
    }),
    { numRuns: 60 },
  );
});

test("records stand in the order they were staged, and a restart goes on with the chain", () => {
  const path = new_path();
  const source = (reason: string) => `import { AuditLog } from "${DIST}helper/audit.js";
    const audit = new AuditLog(${JSON.stringify(path)}, "write");
    console.log(audit.seq, audit.nextSeq);
    for (const i of [1, 2]) audit.stage({ event: "start", reason: "${reason}" + i });
    console.log(audit.nextSeq, audit.owed);
    audit.write();
    console.log(audit.seq, audit.nextSeq, audit.owed);`;
  assert.equal(run_module(source("a")).stdout, "0 1\n3 2\n2 3 0");
  assert.equal(run_module(source("b")).stdout, "2 3\n5 2\n4 5 0");
  assert.deepEqual(reasons(path), ["a1", "a2", "b1", "b2"]);
});

test("a torn line of the run before is told", () => {
  const path = new_path();
  writeFileSync(path, '{"seq":1,"ti');
  assert.equal(new AuditLog(path, "write").torn, '{"seq":1,"ti');
});

test("no room: calls are lost and told so, what has happened is owed and written first once there is room", () => {
  const path = new_path();
  const source = `import { execFileSync } from "node:child_process";
    import { AuditLog } from "${DIST}helper/audit.js";
    process.on("SIGXFSZ", () => undefined);
    const limit = (bytes) => execFileSync("prlimit", ["--pid", String(process.pid), "--fsize=" + bytes + ":unlimited"]);
    const audit = new AuditLog(${JSON.stringify(path)}, "write");
    audit.stage({ event: "start", reason: "first" });
    audit.write();
    limit(300);
    const said = [];
    const fates = [{}, {}, {}];
    audit.stage({ event: "call", reason: "lost 1" }, fates[0]);
    audit.stage({ event: "disconnect", reason: "owed" });
    audit.stage({ event: "call", reason: "lost 2" }, fates[1]);
    audit.commit((failed) => said.push("lost " + fates.map(({ lost }) => lost?.code), "commit " + failed?.error.code + (failed?.written ? " written" : "")));
    said.push(audit.seq, audit.owed, audit.nextSeq);
    try { audit.write(); } catch (error) { said.push("write " + error.code); }
    limit("unlimited");
    audit.stage({ event: "call", reason: "later" }, fates[2]);
    audit.commit((failed) => said.push("commit " + failed?.error.code + (failed?.written ? " written" : "")));
    console.log(said.join("; "), fates.map(({ recorded }) => recorded).join());`;
  const { stdout, stderr } = run_module(source);
  const said = "lost EFBIG,EFBIG,; commit EFBIG; 1; 1; 3; write EFBIG; commit undefined ,,true";
  assert.equal(stdout, said, stderr);
  assert.deepEqual(reasons(path), ["first", "owed", "later"]);
});

test("write: done is called at once", () => {
  const audit = new AuditLog(new_path(), "write");
  let done = 0;
  audit.stage({ event: "start" });
  audit.commit((error) => {
    assert.equal(error, undefined);
    done++;
  });
  assert.equal(done, 1);
  audit.commit(() => done++);
  assert.equal(done, 2, "also with nothing to write");
});

test("fsync: done is called later, in the order of the commits, each after its record is in the file", async () => {
  const path = new_path();
  const audit = new AuditLog(path, "fsync");
  const order: number[] = [];
  const commits = Array.from({ length: 20 }, (_, i) => {
    audit.stage({ event: "call", reason: String(i) });
    return new Promise<void>((resolve) => {
      audit.commit((error) => {
        assert.equal(error, undefined);
        assert.ok(reasons(path).includes(String(i)));
        order.push(i);
        resolve();
      });
    });
  });
  assert.deepEqual(order, [], "none is done before its sync");
  await Promise.all(commits);
  assert.deepEqual(order, [...Array(20).keys()]);
});

test("rotation: the chain goes on in the new file, and the old one is closed", () => {
  const path = new_path();
  const heads: string[] = [];
  const audit = new AuditLog(path, "write", (line) => heads.push(line));
  audit.stage({ event: "start", reason: "old" });
  audit.write();
  const before = count_descriptors();
  assert.equal(audit.reopen(), false);
  audit.stage({ event: "call", reason: "owed to the old file" });
  renameSync(path, `${path}.1`);
  assert.equal(audit.reopen(), true);
  assert.equal(count_descriptors(), before);
  audit.stage({ event: "stop", reason: "new" });
  audit.write();
  const old = read_chain(`${path}.1`);
  const { hash = "" } = unseal(Buffer.from(readFileSync(`${path}.1`, "utf8").trimEnd().split("\n").at(-1) ?? "")) ?? {};
  const fresh = read_chain(path, hash, old.length);
  assert.deepEqual(
    old.map(({ reason }) => reason),
    ["old", "owed to the old file"],
  );
  assert.deepEqual(
    fresh.map(({ event }) => event),
    ["rotate", "stop"],
  );
  assert.equal(heads.length, 1);
  assert.match(heads[0] as string, /^audit head seq=3 hash=[0-9a-f]{64} file=/);
});

test("rotation in the midst of a sync loses nothing", async () => {
  const path = new_path();
  const audit = new AuditLog(path, "fsync");
  const before = count_descriptors();
  const commit = (reason: string) => {
    audit.stage({ event: "call", reason });
    return new Promise<void>((resolve, reject) => audit.commit((error) => (error ? reject(error) : resolve())));
  };
  const waiting = [commit("a"), commit("b")];
  renameSync(path, `${path}.1`);
  assert.equal(audit.reopen(), true);
  waiting.push(commit("c"));
  await Promise.all(waiting);
  assert.deepEqual(reasons(`${path}.1`), ["a", "b"]);
  assert.equal(audit.seq, 4);
  assert.equal(count_descriptors(), before, "the old file is closed");
});

test("rotation to a file that is not empty keeps the old one", () => {
  const path = new_path();
  const audit = new AuditLog(path, "write");
  renameSync(path, `${path}.1`);
  writeFileSync(path, "someone else's\n");
  assert.throws(() => audit.reopen());
  audit.stage({ event: "call", reason: "still here" });
  audit.write();
  assert.deepEqual(reasons(`${path}.1`), ["still here"]);
});

test("heads go out every thousand records and when asked", () => {
  const path = new_path();
  const heads: string[] = [];
  const audit = new AuditLog(path, "write", (line) => heads.push(line));
  for (let i = 0; i < 2500; i++) {
    audit.stage({ event: "call" });
    audit.write();
  }
  assert.deepEqual(
    heads.map((line) => /seq=(\d+)/.exec(line)?.[1]),
    ["1000", "2000"],
  );
  audit.send_head();
  const { hash = "" } = unseal(Buffer.from(readFileSync(path, "utf8").trimEnd().split("\n").at(-1) ?? "")) ?? {};
  assert.equal(heads.at(-1), `audit head seq=2500 hash=${hash} file=${path}`);
  assert.ok(statSync(path).size > 0);
});

test("a log that was removed takes no more records: calls are lost until a signal begins a new one", (t) => {
  const path = new_path();
  const audit = new AuditLog(path, "write");
  audit.stage({ event: "start", reason: "first" });
  audit.write();
  const { hash = "" } = unseal(Buffer.from(readFileSync(path, "utf8").trimEnd())) ?? {};
  const later = process.uptime() + 10;
  let looks = 0;
  t.mock.method(process, "uptime", () => later + 2 * ++looks);
  unlinkSync(path);
  mkdirSync(path); // in the way of a new file
  const lost: string[] = [];
  for (let i = 0; i < 2; i++) {
    const fate: Fate = {};
    audit.stage({ event: "call", reason: "lost" }, fate);
    audit.stage({ event: "disconnect", reason: `owed ${i}` });
    audit.commit((failed) => lost.push(`${fate.lost?.message}`, `written ${failed?.written}`));
    assert.equal(fate.recorded, undefined);
    assert.throws(() => audit.reopen(), /EISDIR/);
  }
  assert.match(lost.join("\n"), /^(.*audit.log was removed; SIGUSR1 begins a new one\nwritten false\n?){2}$/);
  rmdirSync(path);
  assert.equal(audit.reopen(), true);
  const fate: Fate = {};
  audit.stage({ event: "call", reason: "later" }, fate);
  audit.commit((failed) => assert.equal(failed, undefined));
  assert.deepEqual(fate, { recorded: true }, "there is room");
  assert.deepEqual(
    read_chain(path, hash, 1).map(({ event, reason }) => [event, reason]),
    [
      ["disconnect", "owed 0"],
      ["disconnect", "owed 1"],
      ["rotate", "the file before was removed after record 1"],
      ["call", "later"],
    ],
  );
});
