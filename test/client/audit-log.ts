/** Audit logs to be verified: made from protocol.md alone, not by shared/chain.ts, so that a fault there cannot hide itself. */
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Verdict, verify_audit } from "../../client/verify.js";

export const FIRST = "0".repeat(64);

/** A line without its newline: `body` gets `prev`, and then its hash. */
export function make_line(body: object, prev: string): { line: string; hash: string } {
  const text = JSON.stringify({ ...body, prev });
  const hash = createHash("sha256").update(text).digest("hex");
  return { line: `${text.slice(0, -1)},"hash":"${hash}"}`, hash };
}

/** The lines of a log whose records say these things, from record `from` on. */
export function make_lines(reasons: readonly string[], from = 1, prev = FIRST): string[] {
  let before = prev;
  return reasons.map((reason, i) => {
    const { line, hash } = make_line({ seq: from + i, time: "2026-01-02T03:04:05.678Z", event: "call", reason }, before);
    before = hash;
    return line;
  });
}

/** Writes lines into a file each, and verifies these. */
export async function verify_lines(files: readonly (Buffer | string | readonly string[])[], reach?: number): Promise<Verdict> {
  const folder = mkdtempSync(join(tmpdir(), "lowport-audit-"));
  try {
    const paths = files.map((content, i) => {
      const path = join(folder, `audit.log.${i}`);
      const whole = Buffer.isBuffer(content) || typeof content === "string";
      writeFileSync(path, whole ? content : content.map((line) => `${line}\n`).join(""));
      return path;
    });
    const verdict = await verify_audit(paths, reach);
    return { ...verdict, damage: verdict.damage.map((one) => ({ ...one, file: String(paths.indexOf(one.file)) })) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
