/** How install and uninstall tell what they do, as lines or as one JSON document, and which exit code says how it ended. */
import { message_of } from "../../shared/errors.js";
import { EXIT } from "../../shared/protocol.js";
import { ConfigFault } from "../config.js";
import { Undone } from "./changes.js";
import { Refusal } from "./standing.js";

/** Words on the command line that are wrong. */
export class Usage extends Error {}

/** How it ended well. */
export interface Outcome {
  /** One sentence. */
  readonly result: string;
  /** What the admin should know or do now. */
  readonly next: readonly string[];
  /** What did not go as it should, though the work is done; the exit code is then 1. */
  readonly faults?: readonly string[];
}

const UNCHANGED = "nothing was changed";

function explain(error: unknown): { code: number; lines: string[] } {
  if (error instanceof Undone) {
    const end = error.left.length === 0 ? "what had been done is undone; the system is as before" : "not all could be undone:";
    return { code: EXIT.refused, lines: [error.message, end, ...error.left] };
  }
  if (error instanceof Usage) return { code: EXIT.usage, lines: [`usage: ${error.message}; see lowportd --help`, UNCHANGED] };
  if (error instanceof ConfigFault) return { code: EXIT.config, lines: [...error.faults, UNCHANGED] };
  return { code: error instanceof Refusal ? EXIT.config : EXIT.refused, lines: [message_of(error), UNCHANGED] };
}

/** Runs the work of a command, tells how it went, and ends the process. */
export async function run_and_report(
  command: string,
  { json, "dry-run": dry_run }: { json: boolean; "dry-run": boolean },
  work: (say: (line: string) => void, stop: AbortSignal) => Promise<Outcome>,
): Promise<never> {
  const changes: string[] = [];
  const say = (line: string) => {
    changes.push(line);
    if (!json) process.stdout.write(`${dry_run ? "would " : ""}${line}\n`);
  };
  // Whoever reads it may be gone (a closed pipe, a terminal that hung up, a full disk): the work goes on, or is undone, in silence.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => undefined);
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.on(signal, () => stop.abort(new Error(`stopped by ${signal}`)));
  try {
    const { result, next, faults = [] } = await work(say, stop.signal);
    if (json)
      process.stdout.write(`${JSON.stringify({ ok: faults.length === 0, dryRun: dry_run, result, changes, next, faults })}\n`);
    else process.stdout.write(`${[result, ...next.map((line) => `  ${line}`)].join("\n")}\n`);
    for (const fault of faults) process.stderr.write(`lowportd ${command}: ${fault}\n`);
    process.exit(faults.length === 0 ? EXIT.ok : EXIT.refused);
  } catch (error) {
    const { code, lines } = explain(error);
    if (json) process.stdout.write(`${JSON.stringify({ ok: false, dryRun: dry_run, error: lines.join("\n"), changes })}\n`);
    for (const line of lines) process.stderr.write(`lowportd ${command}: ${line}\n`);
    process.exit(code);
  }
}
