/**
 * The hash chain of the audit log. A line is a JSON object whose last members are `prev` (the hash of the line before; 64
 * zeros in the very first) and `hash` (SHA-256 of the line's own bytes without that member). So a line that was edited
 * does not fit its own hash, and one that was removed, added or moved does not fit its neighbour's.
 */
import { isUtf8 } from "node:buffer";
import { has_native, native } from "./native.js";

/** `prev` of the very first line. */
export const FIRST_PREV = "0".repeat(64);

/** Where a chain stands: the number and hash of its last line. */
export interface Head {
  seq: number;
  hash: string;
}

/** Characters of a text that surely fits the addon's call: one has at most three bytes. */
const MAX_SHORT = 21_000;

/** SHA-256, in hexadecimal. node:crypto, which takes 3 ms to load, is for long ones, and for where there is no addon. */
function hash(text: string): string {
  const digest = text.length <= MAX_SHORT && has_native() ? native().sha256(text) : undefined;
  return typeof digest === "string" ? digest : process.getBuiltinModule("node:crypto").hash("sha256", text, "hex");
}

/** Ends a line: `body` is the object without `hash`. Returns the line without newline, and its hash. */
export function seal(body: string): { line: string; hash: string } {
  const digest = hash(body);
  return { line: body.slice(0, -1) + tail(digest), hash: digest };
}

/** How a line ends. */
const tail = (digest: string) => `,"hash":"${digest}"}`;
const TAIL_BYTES = tail(FIRST_PREV).length;

/**
 * Takes a line apart. One that is no UTF-8 is not hashed: as text it could be the same as before it was changed.
 * @returns undefined if it is not a line that `seal` made, whole and unchanged
 */
export function unseal(line: Buffer): (Head & { prev: string; record: Record<string, unknown> }) | undefined {
  if (line.length < TAIL_BYTES || !isUtf8(line) || line.includes(0)) return undefined;
  const body = `${line.toString("utf8", 0, line.length - TAIL_BYTES)}}`;
  const digest = hash(body);
  if (line.toString("latin1", line.length - TAIL_BYTES) !== tail(digest)) return undefined;
  try {
    const record = JSON.parse(body) as Record<string, unknown>;
    if (typeof record["seq"] !== "number" || typeof record["prev"] !== "string") return undefined;
    return { seq: record["seq"], hash: digest, prev: record["prev"], record };
  } catch {
    return undefined;
  }
}
