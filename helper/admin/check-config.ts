/** `lowportd check-config`: reads the configuration as the daemon would, and tells each fault. Changes nothing. */
import { dirname, resolve } from "node:path";
import { message_of } from "../../shared/errors.js";
import { DEFAULT_CONFIG, EXIT } from "../../shared/protocol.js";
import { die } from "../command-line.js";
import { type Config, ConfigFault, load_config } from "../config.js";
import { read_options } from "./arguments.js";
import { look_at } from "./standing.js";

const OPTIONS = {
  config: { type: "string", default: DEFAULT_CONFIG },
  json: { type: "boolean", default: false },
} as const;

/** What serves by hand, and allows nothing to anybody yet. */
const BY_HAND = [
  "useradd --system --user-group lowport",
  "install -d -o lowport -g adm -m 2750 /var/log/lowport",
  `mkdir -p ${dirname(DEFAULT_CONFIG)} && echo '{ "rules": [] }' >${DEFAULT_CONFIG}`,
];

function is_missing(file: string): boolean {
  try {
    return look_at(file) === undefined;
  } catch {
    return false; // in a folder that this user may not look into
  }
}

/** The configuration of somebody who may have none yet. @throws ConfigFault, with the least that is needed if there is none */
export function load_first_config(file: string): Config {
  try {
    return load_config(file);
  } catch (error) {
    if (!(error instanceof ConfigFault) || file !== DEFAULT_CONFIG || !is_missing(file)) throw error;
    throw new ConfigFault([...error.faults, "Without install, as root:", ...BY_HAND.map((line) => `  ${line}`)]);
  }
}

/** Ends the process: 0, or 78 with one line a fault. */
export function check_config(args: readonly string[]): never {
  const { config, json } = read_options(args, OPTIONS);
  const file = resolve(config);
  try {
    const { length } = (json ? load_config : load_first_config)(file).policy.rules;
    const told = `${file}: ok, ${length} ${length === 1 ? "rule" : "rules"}`;
    process.stdout.write(`${json ? JSON.stringify({ ok: true, rules: length }) : told}\n`);
    process.exit(EXIT.ok);
  } catch (error) {
    const faults = error instanceof ConfigFault ? error.faults : [message_of(error)];
    if (json) process.stdout.write(`${JSON.stringify({ ok: false, faults })}\n`);
    die(EXIT.config, faults.join("\n"));
  }
}
