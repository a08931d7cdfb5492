/**
 * The hash chain of the audit log. A line is a JSON object whose last members are `prev` (the hash of the line before; 64
 * zeros in the very first) and `hash` (SHA-256 of the line's own bytes without that member). So a line that was edited
 * does not fit its own hash, and one that was removed, added or moved does not fit its neighbour's.
 */
import { has_native, native } from "./native.js";

/** `prev` of the very first line. */
export const FIRST_PREV = "0".repeat(64);

/** Where a chain stands: the number and hash of its last line. */
export interface Head {
  seq: number;
  hash: string;
}

const sum = Buffer.alloc(32);

/** SHA-256, in hexadecimal. node:crypto, which takes 3 ms to load, is for where there is no addon. */
function hash(bytes: Buffer): string {
  if (has_native() && native().sha256(bytes, sum) === 0) return sum.toString("hex");
  return process.getBuiltinModule("node:crypto").hash("sha256", bytes, "hex");
}

/** Ends a line: `body` is the object without `hash`. Returns the line without newline, and its hash. */
export function seal(body: string): { line: string; hash: string } {
  const digest = hash(Buffer.from(body));
  return { line: body.slice(0, -1) + tail(digest), hash: digest };
}

/** How a line ends. */
const tail = (digest: string) => `,"hash":"${digest}"}`;
const TAIL_BYTES = tail(FIRST_PREV).length;
const BRACE = Buffer.from("}");

/**
 * Takes a line apart. It is hashed as bytes: text would hide a change of bytes that are no UTF-8.
 * @returns undefined if it is not a line that `seal` made, whole and unchanged
 */
export function unseal(line: Buffer): (Head & { prev: string; record: Record<string, unknown> }) | undefined {
  if (line.length < TAIL_BYTES) return undefined;
  const body = Buffer.concat([line.subarray(0, -TAIL_BYTES), BRACE]);
  const digest = hash(body);
  if (line.toString("latin1", line.length - TAIL_BYTES) !== tail(digest)) return undefined;
  try {
    const record = JSON.parse(body.toString()) as Record<string, unknown>;
    if (typeof record["seq"] !== "number" || typeof record["prev"] !== "string") return undefined;
    return { seq: record["seq"], hash: digest, prev: record["prev"], record };
  } catch {
    return undefined;
  }
}
