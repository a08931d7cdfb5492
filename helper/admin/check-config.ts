/** `lowportd check-config`: reads the configuration as the daemon would, and tells each fault. Changes nothing. */
import { resolve } from "node:path";
import { message_of } from "../../shared/errors.js";
import { DEFAULT_CONFIG, EXIT } from "../../shared/protocol.js";
import { die } from "../command-line.js";
import { ConfigFault, load_config } from "../config.js";
import { read_options } from "./arguments.js";

const OPTIONS = {
  config: { type: "string", default: DEFAULT_CONFIG },
  json: { type: "boolean", default: false },
} as const;

/** Ends the process: 0, or 78 with one line a fault. */
export function check_config(args: readonly string[]): never {
  const { config, json } = read_options(args, OPTIONS);
  const file = resolve(config);
  try {
    const rules = load_config(file).policy.rules.length;
    process.stdout.write(json ? `${JSON.stringify({ ok: true, rules })}\n` : `${file}: ok, ${rules} rules\n`);
    process.exit(EXIT.ok);
  } catch (error) {
    const faults = error instanceof ConfigFault ? error.faults : [message_of(error)];
    if (json) process.stdout.write(`${JSON.stringify({ ok: false, faults })}\n`);
    die(EXIT.config, faults.join("\n"));
  }
}
