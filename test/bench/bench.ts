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
import { enter_box } from "../e2e/box.js";
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

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    only: { type: "string", multiple: true, default: [] },
    help: { type: "boolean", default: false },
  },
});
if (options.help) {
  process.stdout.write(`npm run bench [-- --quick] [--json] [--only NAME]...\nNAMEs: ${Object.keys(COMPARISONS).join(", ")}\n`);
  process.exit(0);
}
const unknown = options.only.filter((name) => !(name in COMPARISONS));
if (unknown.length > 0) {
  process.stderr.write(`bench: there is no ${unknown.join(", ")}; there are ${Object.keys(COMPARISONS).join(", ")}\n`);
  process.exit(64);
}
if (process.getuid?.() !== 0) {
  process.stderr.write("bench: it measures a root helper, so it needs root: sudo npm run bench\n");
  process.exit(77);
}
if (process.env["LOWPORT_BENCH_DISK"] === undefined) {
  // Made outside of the box, on the machine's own disk, and removed whatever happens inside.
  const folder = mkdtempSync(join(tmpdir(), "lowport-bench-"));
  chmodSync(folder, 0o755);
  process.env["LOWPORT_BENCH_DISK"] = folder;
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
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
