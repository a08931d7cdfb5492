/**
 * Promise: SIGHUP takes new rules, or keeps the old ones and says why; SIGUSR1 only reopens the audit log; SIGTERM and SIGINT
 * answer what is in flight, record the stop and exit 0; and through all of it the apps keep the sockets that they have.
 */
import assert from "node:assert/strict";
import { chmodSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { AUDIT, CONFIG, read_audit, start_helper, verify_chain, WEB_RULE, write_config } from "./helper-process.js";
import { fetch_from, Peer, type Reply, request } from "./peer.js";

await enter_box(import.meta.url);

test("SIGHUP takes new rules and operators; granted sockets stay granted", async (t) => {
  const helper = await start_helper(t);
  const [alice, browser] = [await Peer.start(t, USERS.alice), await Peer.start(t, USERS.bob)];
  const [wire, other] = [await alice.connect(), await browser.connect()];
  const { fd, lease } = await wire.bind({ port: 80 });
  const loaded = (await wire.ask("status")).result.policyLoadedAt;
  write_config({
    config: { operators: { users: ["bob"] } },
    rules: [{ ...WEB_RULE, name: "new", users: ["bob"], ports: [81] }],
  });
  assert.equal((await other.ask("check", { protocol: "tcp", port: 81 })).result.allowed, false, "not before the signal");
  helper.process.kill("SIGHUP");
  await helper.said("reload");
  await wire.refused("bind", { protocol: "tcp", port: 443 }, 1, "EACCES");
  await other.bind({ port: 81 });
  const { result } = await other.ask("list");
  assert.deepEqual(
    result.leases.map((one: { port: number }) => one.port),
    [80, 81],
  );
  assert.ok((await wire.ask("status")).result.policyLoadedAt > loaded);
  assert.equal((await fetch_from(browser, alice, fd, "127.0.0.1", 80)).body, "hello");
  assert.deepEqual((await wire.ask("release", { lease })).result, { released: true });
  const reload = await helper.recorded("the reload", (line) => line.event === "reload");
  assert.equal(reload.decision, "allow");
  verify_chain();
});

test("SIGHUP with a bad configuration keeps the old rules, and says why in log and record", async (t) => {
  const helper = await start_helper(t);
  const wire = await (await Peer.start(t, USERS.alice)).connect();
  const good = readFileSync(CONFIG, "utf8");
  const bad: [() => void, RegExp][] = [
    [() => writeFileSync(CONFIG, "{"), /is not JSON/],
    [() => writeFileSync(CONFIG, good.replace('"alice"', '"nosuch"')), /\/rules\/0\/users\/0: there is no user "nosuch"/],
    [() => chmodSync(CONFIG, 0o666), /can be written by others/],
  ];
  for (const [i, [spoil, why]] of bad.entries()) {
    spoil();
    helper.process.kill("SIGHUP");
    const said = await helper.said("reload failed; what was in force stays", i + 1);
    assert.match(said["reason"] as string, why);
    const { lease, fd } = await wire.bind({ port: 80 });
    await wire.ask("release", { lease });
    await wire.peer.close(fd);
  }
  const reloads = helper.audit().filter((line) => line.event === "reload");
  assert.deepEqual(
    reloads.map(({ decision }) => decision),
    ["error", "error", "error"],
  );
  for (const [i, [, why]] of bad.entries()) assert.match(reloads[i]?.reason ?? "", why);
  chmodSync(CONFIG, 0o644);
  writeFileSync(CONFIG, good);
  helper.process.kill("SIGHUP");
  await helper.said("reload");
  verify_chain();
});

test("SIGHUP says which changes take a restart", async (t) => {
  const helper = await start_helper(t);
  write_config({ config: { user: "carol" } });
  helper.process.kill("SIGHUP");
  assert.match((await helper.said("reload"))["reason"] as string, /take a restart/);
});

for (const signal of ["SIGTERM", "SIGINT"] as const)
  test(`${signal} answers what is in flight, records the end of all, exits 0, and the app serves on`, async (t) => {
    const helper = await start_helper(t);
    const [alice, browser] = [await Peer.start(t, USERS.alice), await Peer.start(t, USERS.bob)];
    const wire = await alice.connect();
    const { fd, lease } = await wire.bind({ port: 80, hold: 60 });
    helper.process.kill("SIGSTOP"); // so that the request and the signal wait for it together
    await wire.send(request("status", {}, "in flight"));
    helper.process.kill(signal);
    helper.process.kill("SIGCONT");
    const { id, error } = await wire.reply();
    assert.equal(id, "in flight");
    if (error !== undefined) assert.deepEqual([error.code, error.data?.["code"]], [8, "ESHUTDOWN"]);
    assert.deepEqual(await wire.rest(), { text: "", how: "end" });
    assert.equal(await helper.ended(), 0);
    const events = read_audit().map((line) => line.event);
    assert.deepEqual(events.slice(-3).sort(), ["disconnect", "lease-end", "stop"]);
    assert.equal(events.at(-1), "stop");
    assert.ok(read_audit().at(-1)?.reason?.startsWith(signal), "and which signal it was");
    assert.ok(read_audit().some((line) => line.event === "lease-end" && line.lease === lease));
    verify_chain();
    assert.equal((await fetch_from(browser, alice, fd, "127.0.0.1", 80)).body, "hello");
    await assert.rejects(alice.connect(), { code: "ECONNREFUSED" });
  });

test("a stop under load gives each request at most one reply, in order, and each grant its descriptor", async (t) => {
  const helper = await start_helper(t, {
    config: { limits: { requestsPerSecond: 1_000_000, requestBurst: 1_000_000 } },
  });
  const alice = await Peer.start(t, USERS.alice);
  const wire = await alice.connect();
  const text = Array.from({ length: 60 }, (_, i) => request("bind", { protocol: "tcp", port: 800 + i }, i)).join("");
  await wire.send(text);
  const first = await wire.line();
  helper.process.kill("SIGTERM");
  const replies = [first];
  for (;;) {
    try {
      replies.push(await wire.line());
    } catch (error) {
      assert.equal((error as { code: string }).code, "EOFError");
      break;
    }
  }
  let granted = 0;
  for (const [i, { text: line }] of replies.entries()) {
    const { id, error } = JSON.parse(line) as Reply;
    assert.equal(id, i);
    if (error === undefined) granted++;
    else assert.equal(error.data?.["code"], "ESHUTDOWN");
  }
  assert.equal(replies.flatMap(({ fds }) => fds).length, granted);
  assert.equal(await helper.ended(), 0);
  assert.equal(read_audit().filter((line) => line.method === "bind" && line.decision === "allow").length, granted);
  verify_chain();
});

test("a peer that never reads does not keep the helper from stopping", async (t) => {
  const helper = await start_helper(t);
  const alice = await Peer.start(t, USERS.alice);
  const { conn } = await alice.connect();
  await alice.do("flood", { conn, text: request("status", {}, "more"), limit: 5_000_000 });
  assert.equal(await helper.stop(), 0);
  assert.equal(read_audit().at(-1)?.event, "stop");
});

test("SIGUSR1 goes on in a new audit log if rotation has moved the old one, and takes no new rules", async (t) => {
  const helper = await start_helper(t);
  const wire = await (await Peer.start(t, USERS.alice)).connect();
  const loaded = (await wire.ask("status")).result.policyLoadedAt;
  helper.process.kill("SIGUSR1");
  assert.equal((await helper.said("rotate"))["reason"], "the log is the same file");
  write_config({ rules: [{ ...WEB_RULE, users: ["bob"] }] });
  renameSync(AUDIT, `${AUDIT}.1`);
  helper.process.kill("SIGUSR1");
  assert.equal((await helper.said("rotate", 2))["reason"], "goes on in a new file");
  await wire.bind({ port: 80 });
  assert.equal((await wire.ask("status")).result.policyLoadedAt, loaded);
  const lines = read_audit(`${AUDIT}.1`);
  const last = lines.at(-1);
  assert.equal(verify_chain(`${AUDIT}.1`), lines.length);
  assert.ok(verify_chain(AUDIT, { seq: last?.seq ?? 0, hash: last?.hash ?? "" }) > 0);
  assert.ok(read_audit().some(({ method, decision }) => method === "bind" && decision === "allow"));
});

test("SIGUSR1 does not open node's debugger", async (t) => {
  const helper = await start_helper(t);
  helper.process.kill("SIGUSR1");
  await helper.said("rotate");
  await assert.rejects((await Peer.start(t, USERS.bob)).do("dial", { address: "127.0.0.1", port: 9229 }), {
    code: "ECONNREFUSED",
  });
});
