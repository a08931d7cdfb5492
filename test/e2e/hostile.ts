/**
 * Installs on machines that are not as they should be: what is wrong is made by a command, and the install must end with a clear
 * error and its exit code, and leave everything as it was.
 */
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import type { RealBox } from "./real-init.js";
import { list_disk, list_volatile, lowportd, RULE, same_disk } from "./service.js";

export const LOG = "/var/log/lowport";
export const INSTALL: readonly string[] = ["install", "--allow", RULE];

/** Makes what the planted links lead to. */
export async function make_victim(box: RealBox): Promise<void> {
  await box.do(["sh", "-ec", "mkdir -m 1777 /srv/public; mkdir /srv/victim; echo precious >/srv/victim/file"]);
}

/** What the victim is as long as nobody followed a link. */
export const UNTOUCHED = "precious\n/srv/public:\n\n/srv/victim:\nfile\nroot:root:644\nroot:root:755\n";

export function look_at_victim(box: RealBox): Promise<string> {
  const look = "cat /srv/victim/file; ls -A /srv/public /srv/victim; stat -c %U:%G:%a /srv/victim/file /srv/victim";
  return box.do(["sh", "-c", look]);
}

/** All of the system as far as an install has to do with it. */
export const list_all = (box: RealBox): Map<string, string> =>
  new Map([...list_disk(box), ...list_volatile(box).map((path): [string, string] => [path, "volatile"])]);

export interface Case {
  /** Makes what is wrong: shell. */
  readonly spoil: string;
  /** Puts it right again, after the test. */
  readonly mend?: string;
  /** The exit code; 78 if not said. */
  readonly code?: number;
  readonly why: RegExp;
  readonly args?: readonly string[];
  /** The checkout that is installed. */
  readonly from?: string;
}

/** Proves that an install is refused, with this code and message, and changes nothing at all. */
export async function refused(
  t: TestContext,
  box: RealBox,
  { spoil, mend, code = 78, why, args = INSTALL, from }: Case,
): Promise<void> {
  await box.do(["sh", "-ec", spoil]);
  if (mend !== undefined) t.after(() => box.do(["sh", "-ec", mend]));
  const was = list_all(box);
  const outcome = await lowportd(box, args, { timeout: 30_000 }, from);
  if (outcome.code === 0) await lowportd(box, ["uninstall", "--purge"]); // for the tests that follow
  assert.equal(outcome.code, code, outcome.stderr + outcome.stdout);
  assert.match(outcome.stderr, why);
  assert.doesNotMatch(outcome.stderr, /\n\s+at /, "no stack");
  same_disk(list_all(box), was);
}

export const literal = (text: string): RegExp => new RegExp(text.replaceAll(/[.*+?^${}()|[\]\\/]/g, "\\$&"));
