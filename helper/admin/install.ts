/**
 * `lowportd install`: from a program in some folder to a service that runs and starts at boot. All that can be wrong is found out
 * first, while nothing has been changed; then the changes are made in order, and undone if one fails. The second time it is
 * an upgrade: only what differs is changed.
 */
import { resolve } from "node:path";
import { message_of } from "../../shared/errors.js";
import { EXIT, VERSION } from "../../shared/protocol.js";
import { die } from "../command-line.js";
import { load_posix } from "../posix.js";
import { type Allowed, parse_allow } from "./allow.js";
import { read_options } from "./arguments.js";
import { make_changes } from "./changes.js";
import { find_init, INIT_NAMES, init_of, refuse_init } from "./inits.js";
import { is_installed, refuse_if_newer } from "./newer.js";
import { next_steps } from "./next-steps.js";
import { find_node, judge_file } from "./node.js";
import { clean_up, plan_install } from "./plan.js";
import { lock_installs, read_record } from "./record.js";
import { type Outcome, run_and_report, Usage } from "./report.js";
import { gather_sources } from "./sources.js";
import { Refusal } from "./standing.js";

const OPTIONS = {
  init: { type: "string" },
  allow: { type: "string", multiple: true },
  node: { type: "string" },
  hardened: { type: "boolean", default: false },
  "dry-run": { type: "boolean", default: false },
  json: { type: "boolean", default: false },
} as const;

function read_allowed(words: readonly string[]): Allowed[] {
  try {
    load_posix(); // names are looked up by it
  } catch (error) {
    throw new Refusal(message_of(error));
  }
  try {
    return words.map(parse_allow);
  } catch (error) {
    throw new Usage(message_of(error));
  }
}

/** Ends the process: 0, 1 (failed and undone), 64, 77, 78 (something here forbids it; nothing was changed). */
export async function install(args: readonly string[]): Promise<never> {
  const options = read_options(args, OPTIONS);
  if (process.getuid?.() !== 0) die(EXIT.noPermission, "lowportd install: must be run as root (try sudo)");
  process.umask(0o022); // for the programs that are run; what is written here gets its mode by hand
  return run_and_report("install", options, async (say, stop): Promise<Outcome> => {
    // 1. What is wanted.
    if (options.init !== undefined && !INIT_NAMES.some((name) => name === options.init))
      throw new Usage(`--init is one of ${INIT_NAMES.join(", ")}`);
    const allowed = read_allowed(options.allow ?? []);
    const node = options.node === undefined ? process.execPath : find_node(resolve(options.node));

    // 2. No other install runs, and what one left that was killed is gone.
    if (!options["dry-run"]) {
      lock_installs();
      clean_up();
    }

    // 3. What is here: the init, an earlier install, and a program and a Node that are root's alone.
    const before = read_record();
    const init = options.init !== undefined ? init_of(options.init) : before === undefined ? find_init() : init_of(before.init);
    if (before !== undefined && before.init !== init.name)
      throw new Refusal(`lowport is installed for ${before.init}; run lowportd uninstall first`);
    if (options.hardened && init.hardened === undefined) throw new Usage(`--hardened is for systemd, and this is ${init.name}`);
    await refuse_init(init);
    const { version, notes } = await judge_file(node);
    const sources = gather_sources(node);
    const nothing_else = options.node === undefined && allowed.length === 0 && !options.hardened;
    if (is_installed() && nothing_else) refuse_if_newer(sources);

    // 4. What differs.
    const { changes, settings, release } = await plan_install(init, options.hardened, sources, allowed, before);
    const next = [...notes, ...next_steps(allowed, settings)];
    if (options["dry-run"]) {
      for (const change of changes) if (change.apply !== undefined) say(change.says);
      return { result: changes.length === 0 ? "already installed and running" : "nothing was changed (--dry-run)", next };
    }
    if (changes.length === 0)
      return { result: `lowport ${VERSION} is already installed and running, with Node ${version}`, next };

    // 5. All of it, or nothing.
    const faults = await make_changes(changes, stop, say);
    const what =
      before === undefined
        ? `installed (${release})`
        : before.release === release
          ? `up to date (${release})`
          : `up to date: upgraded from ${before.release} to ${release}`;
    return { result: `lowport ${VERSION} is ${what}, with Node ${version}, enabled and running`, next, faults };
  });
}
