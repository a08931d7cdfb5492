/**
 * The limit of Node: the system calls of a grant, JSON in and out and the chained record, and nothing else. No rules, schema,
 * limits, leases, errors or sandbox, and it does not survive bad input: never run it for anything but a bench.
 *
 *   node-alone SOCKET AUDIT
 */
import { chmodSync, closeSync, openSync, writeSync } from "node:fs";
import { constants } from "node:os";
import process from "node:process";
import { read_peer } from "../../../helper/peer.js";
import type { Peer } from "../../../helper/policy.js";
import { FIRST_PREV, seal } from "../../../shared/chain.js";
import { native } from "../../../shared/native.js";
import { READABLE, unwatch, wait_in_place_of_node, watch } from "../../../shared/poll.js";

interface Request {
  readonly id: number;
  readonly method: string;
  readonly params?: { readonly port: number; readonly lease: string };
}

const [socket = "", log = ""] = process.argv.slice(2);
const chunk = Buffer.allocUnsafeSlow(65_536);
const fds = new Int32Array(1);
const audit = openSync(log, "a");
/** What is bound, by lease. */
const held = new Map<string, number>();
let head = { seq: 0, hash: FIRST_PREV };
let lines = "";

/** Ends a line of the log, to be written with the others of a read. */
function record(body: string): void {
  const { line, hash } = seal(body);
  head = { seq: head.seq + 1, hash };
  lines += `${line}\n`;
}

function write(): void {
  native().appendText(audit, lines);
  lines = "";
}

const NONE = { port: 0, lease: "" };
const TIME = "2026-01-01T00:00:00.000Z";

/** @returns the reply, and what goes with it */
function answer(fd: number, peer: Peer, { id, method, params = NONE }: Request): { reply: string; bound: number } {
  const lease = method === "bind" ? String(id).padStart(16, "0") : params.lease;
  const bound = method === "bind" ? native().bindSocket(true, "::", params.port, false, false, 511) : -1;
  if (method === "bind") held.set(lease, bound);
  else if (method === "release") {
    closeSync(held.get(lease) ?? -1);
    held.delete(lease);
  }
  // biome-ignore format: as the helper has it
  record(JSON.stringify({ seq: head.seq + 1, time: TIME, event: "call", peer, conn: fd, method, id, params, decision: "allow", rule: "bench", lease, durationUs: 20, prev: head.hash }));
  const granted = { lease, protocol: "tcp", address: "::", port: params.port, resumed: false, fds: 1 };
  return { reply: `${JSON.stringify({ jsonrpc: "2.0", id, result: method === "bind" ? granted : {} })}\n`, bound };
}

function read(fd: number, peer: Peer): void {
  const got = native().receive(fd, chunk);
  if (got === -constants.errno.EAGAIN) return;
  if (got <= 0) {
    unwatch(fd);
    closeSync(fd);
    // As its load leaves: nobody else has any.
    for (const bound of held.values()) closeSync(bound);
    held.clear();
    return;
  }
  const answers: { reply: string; bound: number }[] = [];
  const text = chunk.toString("utf8", 0, got - 1);
  for (let from = 0; from < text.length; ) {
    const end = text.indexOf("\n", from);
    const request = text.slice(from, end < 0 ? text.length : end);
    answers.push(answer(fd, peer, JSON.parse(request) as Request));
    from += request.length + 1;
  }
  write();
  for (const { reply, bound } of answers) {
    fds[0] = bound;
    native().send(fd, Buffer.from(reply), fds, bound < 0 ? 0 : 1);
  }
}

function welcome(): void {
  const fd = native().acceptUnix(listener);
  const peer = read_peer(fd);
  record(JSON.stringify({ seq: head.seq + 1, time: TIME, event: "connect", peer, conn: fd, decision: "allow", prev: head.hash }));
  watch(fd, READABLE, () => read(fd, peer));
  read(fd, peer);
}

wait_in_place_of_node();
const listener = native().openUnix(socket, 100);
chmodSync(socket, 0o666);
watch(listener, READABLE, welcome);
writeSync(3, "ready");
