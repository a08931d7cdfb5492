/**
 * The limit of Node: the system calls of a grant, JSON in and out and the chained record, and nothing else. No rules, schema,
 * limits, leases, errors or sandbox, and it does not survive bad input: never run it for anything but a bench.
 *
 *   node-alone SOCKET AUDIT
 */
import { chmodSync, closeSync, openSync, writeSync } from "node:fs";
import process from "node:process";
import { FIRST_PREV, seal } from "../../../shared/chain.js";
import { native } from "../../../shared/native.js";
import { READABLE, unwatch, wait_in_place_of_node, watch } from "../../../shared/poll.js";

interface Request {
  readonly id: number;
  readonly method: "bind" | "release";
  readonly params: { readonly port: number; readonly lease: string };
}

const [socket = "", log = ""] = process.argv.slice(2);
const chunk = Buffer.allocUnsafeSlow(65_536);
const fds = new Int32Array(1);
const peer = { pid: 1, uid: 1001, gid: 1001, groups: [990] };
const held = new Map<string, number>();
const audit = openSync(log, "a");
let head = { seq: 0, hash: FIRST_PREV };

function answer(fd: number, { id, method, params }: Request): { line: string; reply: Buffer; bound: number } {
  const lease = method === "bind" ? String(id).padStart(16, "0") : params.lease;
  const bound = method === "bind" ? native().bindSocket(true, "::", params.port, false, false, 511) : -1;
  if (method === "bind") held.set(lease, bound);
  else {
    closeSync(held.get(lease) ?? -1);
    held.delete(lease);
  }
  const seq = head.seq + 1;
  // biome-ignore format: as the helper has it
  const all = { seq, time: "2026-01-01T00:00:00.000Z", event: "call", peer, conn: fd, method, id, params, decision: "allow", rule: "bench", lease, durationUs: 20, prev: head.hash };
  const { line, hash } = seal(JSON.stringify(all));
  head = { seq, hash };
  const granted = { lease, protocol: "tcp", address: "::", port: params.port, resumed: false, fds: 1 };
  const result = method === "bind" ? granted : { released: true };
  return { line, reply: Buffer.from(`${JSON.stringify({ jsonrpc: "2.0", id, result })}\n`), bound };
}

function read(fd: number): void {
  const got = native().receive(fd, chunk);
  if (got <= 0) {
    unwatch(fd);
    closeSync(fd);
    return;
  }
  const requests = chunk.toString("utf8", 0, got - 1).split("\n");
  const answers = requests.map((request) => answer(fd, JSON.parse(request) as Request));
  let lines = "";
  for (const { line } of answers) lines += `${line}\n`;
  native().appendText(audit, lines);
  for (const { reply, bound } of answers) {
    fds[0] = bound;
    native().send(fd, reply, fds, bound < 0 ? 0 : 1);
  }
}

wait_in_place_of_node();
const listener = native().openUnix(socket, 100);
chmodSync(socket, 0o666);
watch(listener, READABLE, () => {
  const fd = native().acceptUnix(listener);
  watch(fd, READABLE, () => read(fd));
});
writeSync(3, "ready");
