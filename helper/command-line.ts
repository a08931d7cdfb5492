/** How the daemon is told what to do, and how it ends when a step fails: one line to stderr and a code of sysexits(3). */
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { message_of } from "../shared/errors.js";
import { DEFAULT_CONFIG, EXIT } from "../shared/protocol.js";
import { ConfigFault } from "./config.js";

/** Ends the process with a line to stderr. */
export function die(code: number, message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(code);
}

/** Runs a step that may fail for the reasons its message names; then the process ends with `code`. */
export function step<T>(code: number, what: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    die(code, error instanceof ConfigFault ? error.message : `${what}: ${message_of(error)}`);
  }
}

/** What `lowportd run` is asked to do; admin/commands.ts describes it. */
const OPTIONS = {
  config: { type: "string", default: DEFAULT_CONFIG },
  "pid-file": { type: "string" },
  "ready-fd": { type: "string" },
  syslog: { type: "boolean", default: false },
} as const;

/** @returns undefined if the arguments are for another command than serving. Ends the process if they are wrong */
export function read_run_options(args: string[]) {
  const { values: given, positionals } = parseArgs({ args, options: OPTIONS, allowPositionals: true, strict: false });
  // Options of other commands, and those that there are not, are for admin/commands.ts.
  if ((positionals[0] ?? "run") !== "run" || Object.keys(given).some((name) => !Object.hasOwn(OPTIONS, name))) return undefined;
  return step(EXIT.usage, "lowportd: usage", () => {
    const { values, positionals: words } = parseArgs({ args, options: OPTIONS, allowPositionals: true });
    if (words.length > 1) throw new Error(`"${words[1]}" is one word too many; see lowportd --help`);
    const { "pid-file": pidFile, "ready-fd": ready, syslog } = values;
    if (ready !== undefined && !/^[0-9]{1,4}$/.test(ready)) throw new Error("--ready-fd takes the number of a descriptor");
    const readyFd = ready === undefined ? undefined : Number(ready);
    return { file: resolve(values.config), pidFile: pidFile && resolve(pidFile), readyFd, syslog };
  });
}
