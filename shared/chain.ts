/**
 * The hash chain of the audit log. A line is a JSON object whose last members are `prev` (the hash of the line before; 64
 * zeros in the very first) and `hash` (SHA-256 of the line's own bytes without that member). So a line that was edited
 * does not fit its own hash, and one that was removed, added or moved does not fit its neighbour's.
 */
import { hash } from "node:crypto";

/** `prev` of the very first line. */
export const FIRST_PREV = "0".repeat(64);

/** Where a chain stands: the number and hash of its last line. */
export interface Head {
  seq: number;
  hash: string;
}

/** Ends a line: `body` is the object without `hash`. Returns the line without newline, and its hash. */
export function seal(body: string): { line: string; hash: string } {
  const digest = hash("sha256", body, "hex");
  return { line: `${body.slice(0, -1)},"hash":"${digest}"}`, hash: digest };
}

const TAIL = /^(.*),"hash":"([0-9a-f]{64})"\}$/s;

/** Takes a line apart. @returns undefined if it is not a line that `seal` made, whole and unchanged */
export function unseal(line: string): (Head & { prev: string; record: Record<string, unknown> }) | undefined {
  const match = TAIL.exec(line);
  if (match === null) return undefined;
  const body = `${match[1]}}`;
  if (hash("sha256", body, "hex") !== match[2]) return undefined;
  try {
    const record = JSON.parse(body) as Record<string, unknown>;
    if (typeof record["seq"] !== "number" || typeof record["prev"] !== "string") return undefined;
    return { seq: record["seq"], hash: match[2], prev: record["prev"], record };
  } catch {
    return undefined;
  }
}
