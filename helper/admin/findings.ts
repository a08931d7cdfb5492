/**
 * What `lowportd doctor` finds. A check looks and changes nothing; it says what is wrong together with its cure. What this user
 * may not see is "unknown", never "ok".
 */
import { message_of } from "../../shared/errors.js";

/** What a check has found. */
export interface Result {
  readonly state: "ok" | "wrong" | "unknown";
  readonly detail: string;
  /** What to do; empty if it is ok. */
  readonly cure: string;
}

/** A line of the doctor's report. */
export interface Finding extends Result {
  readonly check: string;
}

export const ok = (detail: string): Result => ({ state: "ok", detail, cure: "" });
export const wrong = (detail: string, cure: string): Result => ({ state: "wrong", detail, cure });
export const unknown = (detail: string, cure = ""): Result => ({ state: "unknown", detail, cure });

/** What is wrong, or if nothing is, that all is well. */
export const unless_wrong = (found: readonly Result[], detail: string): readonly Result[] =>
  found.length > 0 ? found : [ok(detail)];

const COMMANDS: Readonly<Record<string, (verb: string) => string>> = {
  systemd: (verb) => `sudo systemctl ${verb} lowport${verb === "reload" ? "" : ".socket lowport.service"}`,
  openrc: (verb) => `sudo rc-service lowport ${verb}`,
  sysv: (verb) => `sudo service lowport ${verb}`,
};

/** How an admin has the helper started, restarted or reloaded. @param init that install has recorded, if any */
export function tell(verb: "start" | "restart" | "reload", init: string | undefined): string {
  const by_hand = verb === "reload" ? "send it SIGHUP" : `${verb} it`;
  return COMMANDS[init ?? ""]?.(verb) ?? by_hand;
}

/** Findings of one check that are told; the rest is counted. */
const MAX_TOLD = 10;

/** A check that could not be made to its end. */
function explain_failure(error: unknown, is_root: boolean): Result {
  const { code = "", path = "" } = error as NodeJS.ErrnoException;
  if (["EACCES", "EPERM"].includes(code) && !is_root)
    return unknown(
      `needs root: ${path === "" ? message_of(error) : `this user may not look at ${path}`}`,
      "sudo lowportd doctor",
    );
  if (code === "ENOENT" && path !== "") return wrong(`${path} is missing`, "sudo lowportd install makes it again");
  return wrong(message_of(error), "look at what it names");
}

/** Runs a check. It never throws: what the kernel refuses this user is unknown to it, anything else that fails is wrong. */
export async function run_check(
  check: string,
  look: () => readonly Result[] | Promise<readonly Result[]>,
  is_root = process.getuid?.() === 0,
): Promise<Finding[]> {
  let results: readonly Result[];
  try {
    results = await look();
  } catch (error) {
    results = [explain_failure(error, is_root)];
  }
  const told = results.slice(0, MAX_TOLD);
  const more = results.length - told.length;
  if (more > 0) told.push(wrong(`and ${more} more of these`, "see those above"));
  return told.map((result) => ({ check, ...result }));
}

/** A file's mode as it is written: 0644. */
export const octal = (mode: number): string => (mode & 0o7777).toString(8).padStart(4, "0");
