/**
 * `npm run bench`: lowport beside what users would take instead, and beside the physical limit, in one run.
 *
 *   npm run bench [-- --quick] [--json] [--only WORD]
 *
 * It needs root, because the daemons are real: it runs in namespaces of its own and changes nothing of this machine.
 */
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { VERSION } from "../../shared/protocol.js";
import { enter_box, why_not } from "../e2e/box.js";
import { type Comparison, type Result, run_comparison } from "./compare.js";
import { new_connection, pipelined, warm_grant } from "./grants.js";
import { growth, verify } from "./growth.js";
import { machine } from "./machine.js";
import type { Context } from "./peers/beside.js";
import { data_plane } from "./peers/data-plane.js";
import { each_listen } from "./peers/each-listen.js";
import { fresh_program } from "./peers/fresh-program.js";
import { HEADER, notes, section } from "./report.js";
import { first_request, memory_use, start_to_ready } from "./start.js";

const COMPARISONS: Readonly<Record<string, (context: Context) => Comparison | Promise<Comparison>>> = {
  warm_grant,
  new_connection,
  pipelined,
  each_listen,
  fresh_program,
  data_plane,
  start_to_ready,
  first_request,
  memory_use,
  growth,
  verify,
};
const ROUNDS = 9;
const QUICK_ROUNDS = 3;

const HELP = `npm run bench [-- --quick] [--json] [--only NAME]...

Measures lowport beside what would be used instead, and beside the same work in C. As root, in namespaces of its own.
  --quick      few samples: under a minute in place of some minutes, and figures that are good to a tenth
  --json       the same for programs (npm run -s bench -- --json)
  --only NAME  one of: ${Object.keys(COMPARISONS).join(", ")}
What is to be reached stands beside what is: "missed" is said, and not hidden.
`;

function end(code: number, text: string): never {
  (code === 0 ? process.stdout : process.stderr).write(text);
  process.exit(code);
}

function read_options() {
  const flag = { type: "boolean", default: false } as const;
  try {
    const only = { type: "string", multiple: true, default: [] as string[] } as const;
    const { values } = parseArgs({ options: { quick: flag, json: flag, help: flag, only } });
    const unknown = values.only.filter((name) => !Object.hasOwn(COMPARISONS, name));
    if (unknown.length > 0)
      end(64, `bench: there is no ${unknown.join(", ")}; there are ${Object.keys(COMPARISONS).join(", ")}\n`);
    return values;
  } catch (error) {
    return end(64, `bench: ${(error as Error).message.split(/[.\n]/)[0]}; see --help\n`);
  }
}

const options = read_options();
if (options.help) end(0, HELP);
const inside = process.env["LOWPORT_BOX"] !== undefined;
const reason = inside ? undefined : why_not();
if (reason !== undefined)
  end(77, `bench: it measures a root helper, so it needs root and namespaces of its own: sudo npm run bench (${reason})\n`);
const disk = process.env["LOWPORT_BENCH_DISK"] ?? mkdtempSync(join(tmpdir(), "lowport-bench-"));
if (inside)
  process.once("SIGINT", () => {
    rmSync(disk, { recursive: true, force: true });
    process.exit(130);
  });
else {
  // Made outside of the box, on the machine's own disk. Ctrl-C reaches the bench in the box too, which ends; then this goes on.
  chmodSync(disk, 0o755);
  process.env["LOWPORT_BENCH_DISK"] = disk;
  process.on("SIGINT", () => undefined);
  process.on("exit", () => rmSync(disk, { recursive: true, force: true }));
}
await enter_box(import.meta.url);

const say = (text: string) => {
  if (!options.json) process.stdout.write(`${text}\n`);
};
const context = { quick: options.quick };
const line = `lowport ${VERSION}; ${machine()}`;
say(`${line}${options.quick ? "; --quick: few samples, so trust no figure to ten percent" : ""}\n\n${HEADER}`);
const results: Result[] = [];
for (const [name, make] of Object.entries(COMPARISONS)) {
  if (options.only.length > 0 && !options.only.includes(name)) continue;
  const result = await run_comparison(await make(context), options.quick ? QUICK_ROUNDS : ROUNDS);
  results.push(result);
  say(section(result));
}
say(`\nMedians over rounds in turn; the ratio is to the first of each group, round by round.\n\n${notes(results)}`);
if (options.json) process.stdout.write(`${JSON.stringify({ machine: line, quick: options.quick, results }, null, 2)}\n`);
process.exit(0);
