/** Readiness in node's event loop: on the main thread through shared/poll.ts, and in workers that come and go. */
import assert from "node:assert/strict";
import { closeSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { native } from "../../shared/native.js";
import { HANG_UP, keep_alive, READABLE, unwatch, WRITABLE, watch } from "../../shared/poll.js";
import { DIST, run_module, temp_folder } from "../fixtures.js";

function make_pair(): [number, number] {
  const path = join(temp_folder(), "s");
  const listener = native().openUnix(path, 1);
  const pair: [number, number] = [native().openUnix(path, 0), native().acceptUnix(listener)];
  closeSync(listener);
  return pair;
}
const say = (fd: number, text: string) => native().send(fd, Buffer.from(text), new Int32Array(0), 0);
const next_mask = (fd: number, mask: number) => new Promise<number>((resolve) => watch(fd, mask, resolve));

test("readable, writable and hang-up are told as epoll's mask", async () => {
  const [client, server] = make_pair();
  assert.equal((await next_mask(server, WRITABLE)) & WRITABLE, WRITABLE);
  say(client, "x");
  assert.equal(await next_mask(server, READABLE), READABLE);
  native().receive(server, Buffer.alloc(9));
  closeSync(client);
  assert.notEqual((await next_mask(server, 0)) & HANG_UP, 0, "also where nothing is asked");
  unwatch(server);
  closeSync(server);
});

test("an unwatched descriptor is silent, and the others go on", async () => {
  const [one, two] = [make_pair(), make_pair()];
  const told: string[] = [];
  watch(one[1], READABLE, () => told.push("one"));
  unwatch(one[1]);
  unwatch(one[1]);
  say(one[0], "x");
  say(two[0], "x");
  await next_mask(two[1], READABLE);
  await new Promise(setImmediate);
  assert.deepEqual(told, []);
  unwatch(two[1]);
  for (const fd of [...one, ...two]) closeSync(fd);
});

test("more descriptors than one turn brings are all told", async () => {
  const pairs = Array.from({ length: 150 }, make_pair);
  const ready = Promise.all(pairs.map(([, server]) => next_mask(server, READABLE)));
  for (const [client] of pairs) say(client, "x");
  assert.deepEqual(new Set(await ready), new Set([READABLE]));
  for (const [client, server] of pairs) {
    unwatch(server);
    closeSync(server);
    closeSync(client);
  }
});

test("what cannot be watched is an error with its errno", () => {
  assert.throws(() => watch(9999, READABLE, () => undefined), /epoll_ctl on descriptor 9999/);
  unwatch(9999);
});

test("keep_alive is a switch that may be set at any time", () => {
  keep_alive(true);
  keep_alive(false);
});

const SETUP = `import { openSync, writeFileSync } from "node:fs";
  import { native } from "file://${DIST}shared/native.js";
  import { keep_alive, READABLE, watch, unwatch } from "file://${DIST}shared/poll.js";
  const path = ${JSON.stringify(join(temp_folder(), "p"))} + process.pid;
  const listener = native().openUnix(path, 1);
  const client = native().openUnix(path, 0);
  const server = native().acceptUnix(listener);
  const say = () => native().send(client, Buffer.from("x"), new Int32Array(0), 0);
`;

test("keep_alive(false) lets the process exit, though it watches", () => {
  const { status, signal, stderr } = run_module(`${SETUP} watch(server, READABLE, () => undefined); keep_alive(false);`, [
    "timeout",
    "20",
  ]);
  assert.deepEqual([status, signal], [0, null], stderr);
});

test("without it a watched descriptor keeps the process alive", () => {
  const { status, stderr } = run_module(`${SETUP} watch(server, READABLE, () => undefined);`, ["timeout", "0.7"]);
  assert.equal(status, 124, stderr);
});

const INSTEAD = SETUP.replace(
  "const path",
  `import { wait_in_place_of_node } from "file://${DIST}shared/poll.js"; wait_in_place_of_node(); const path`,
);

test("in the place of Node's loop: timers, immediates, files, signals, sockets and children are served as ever", () => {
  const { status, stdout, stderr } = run_module(
    `${INSTEAD}
     import { spawn } from "node:child_process"; import { once } from "node:events"; import { readFile } from "node:fs/promises";
     import net from "node:net"; import { setTimeout as sleep } from "node:timers/promises";
     const told = [];
     let tell;
     watch(server, READABLE, () => { native().receive(server, Buffer.alloc(9)); tell?.(); });
     const asked = () => { const answer = new Promise((resolve) => { tell = resolve; }); say(); return answer; };
     await asked(); told.push("watched");
     await sleep(20); told.push("timer");
     await new Promise(setImmediate); told.push("immediate");
     await readFile("/etc/passwd"); told.push("file");
     const signal = once(process, "SIGUSR2"); process.kill(process.pid, "SIGUSR2"); await signal; told.push("signal");
     const listening = net.createServer((socket) => socket.end("hello")).listen(0, "127.0.0.1");
     await once(listening, "listening");
     for await (const bytes of net.connect(listening.address().port, "127.0.0.1")) told.push(String(bytes));
     await Promise.all([asked(), readFile("/etc/passwd")]); told.push("both");
     listening.close();
     const child = spawn("sh", ["-c", "for i in $(seq 100); do printf x >&3; sleep 0.01; done"], { stdio: ["ignore", "ignore", "inherit", client] });
     let count = 0;
     await new Promise((resolve) => { tell = () => { count++; resolve(); }; });
     await sleep(100);
     told.push(count < 90 ? "a timer meanwhile" : "late");
     await (child.exitCode ?? once(child, "exit")); told.push("child");
     keep_alive(false);
     console.log(told.join(" "));`,
    ["timeout", "20"],
  );
  assert.equal(stdout, "watched timer immediate file signal hello both a timer meanwhile child", stderr);
  assert.equal(status, 0, "and ends when there is nothing more to do");
});

test("in the place of Node's loop it sleeps where there is nothing to do, and is kept alive by what it watches", () => {
  const { status, stdout } = run_module(
    `${INSTEAD} watch(server, READABLE, () => undefined);
     process.on("SIGTERM", () => { console.log(process.cpuUsage().user + process.cpuUsage().system < 400_000); process.exit(5); });`,
    ["timeout", "--preserve-status", "1.5"],
  );
  assert.deepEqual([status, stdout], [5, "true"]);
});

test("in the place of Node's loop an exception in a watcher is an uncaught one, and what comes after it is served", () => {
  const { status, stdout, stderr } = run_module(
    `${INSTEAD} let count = 0;
     process.on("uncaughtException", (error) => { console.log(error.message); say(); });
     watch(server, READABLE, () => { native().receive(server, Buffer.alloc(9)); if (++count === 3) process.exit(5); throw new Error("mine"); });
     say();`,
    ["timeout", "20"],
  );
  assert.deepEqual([status, stdout], [5, "mine\nmine"], stderr);
});

test("an exception in a watcher is an uncaught exception as any other", () => {
  const { status, stderr } = run_module(
    `${SETUP} process.on("uncaughtException", (error) => process.exit(error.message === "mine" ? 5 : 6));
     watch(server, READABLE, () => { throw new Error("mine"); }); say();`,
  );
  assert.equal(status, 5, stderr);
});

test("wrong arguments of the poll calls throw and never crash", () => {
  const { stdout, stderr } = run_module(
    `import { native } from "file://${DIST}shared/native.js";
     const calls = native();
     const told = [];
     const attempt = (what, call) => { try { call(); told.push(what + " passed"); } catch (error) { told.push(what + " " + error.name); } };
     attempt("watch before start", () => calls.pollWatch(0, 1));
     attempt("ref before start", () => calls.pollRef(true));
     for (const wrong of [undefined, null, 5, "x", {}, []]) attempt("start", () => calls.pollStart(wrong, false));
     attempt("none", () => calls.pollStart());
     calls.pollStart(() => undefined, false);
     attempt("twice", () => calls.pollStart(() => undefined, false));
     attempt("watch", () => calls.pollWatch(0));
     attempt("watch", () => calls.pollWatch(0, "1"));
     attempt("ref", () => calls.pollRef(1));
     calls.pollRef(false);
     console.log(told.join(", "));`,
    ["timeout", "20"],
  );
  const wrong = "start TypeError, ".repeat(6);
  const expected = `watch before start Error, ref before start Error, ${wrong}none TypeError, twice TypeError, watch TypeError, watch TypeError, ref TypeError`;
  assert.equal(stdout, expected, stderr);
});

test("workers have poll sets of their own, and may be terminated while they watch", () => {
  const worker = `${SETUP}
    import { parentPort } from "node:worker_threads";
    watch(server, READABLE, () => { native().receive(server, Buffer.alloc(9)); parentPort.postMessage("ready"); say(); });
    say();`.replace("+ process.pid", "+ process.pid + '.' + (await import('node:worker_threads')).threadId");
  const { status, signal, stdout, stderr } = run_module(
    `${SETUP} import { once } from "node:events"; import { Worker } from "node:worker_threads";
     let told = 0;
     watch(server, READABLE, () => { told++; native().receive(server, Buffer.alloc(9)); });
     const source = new URL("data:text/javascript," + encodeURIComponent(${JSON.stringify(worker)}));
     for (let round = 0; round < 5; round++) {
       const workers = [1, 2, 3].map(() => new Worker(source));
       await Promise.all(workers.map((worker) => once(worker, "message")));
       await Promise.all(workers.map((worker) => worker.terminate()));
       say();
       while (told <= round) await new Promise(setImmediate);
     }
     console.log("alive", told);
     unwatch(server);
     keep_alive(false);`,
    ["timeout", "60"],
  );
  assert.deepEqual([status, signal, stdout], [0, null, "alive 5"], stderr);
});
