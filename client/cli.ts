#!/usr/bin/env node
/**
 * The `lowport` command: the table of its commands, and main. A command is loaded only when it is asked for, and nothing is
 * done to the standard streams before that: a raw one hands them to another program as they are.
 */
import type { Table } from "./command/command.js";

const COMMANDS: Table = {
  status: () => import("./command/status.js"),
  doctor: () => import("./command/doctor.js"),
  list: () => import("./command/list.js"),
  check: () => import("./command/check.js"),
  exec: () => import("./exec/command.js"),
  revoke: () => import("./command/revoke.js"),
  "audit tail": () => import("./command/audit-tail.js"),
  "audit verify": () => import("./command/audit-verify.js"),
};

/** @returns the exit code */
async function main(args: readonly string[]): Promise<number> {
  const [name = "", ...rest] = args;
  const first = Object.hasOwn(COMMANDS, name) ? await COMMANDS[name]?.() : undefined;
  if (first !== undefined && "take" in first.command) return first.command.take(rest);
  const { run_command } = await import("./command/run.js");
  return run_command(COMMANDS, args);
}

process.exitCode = await main(process.argv.slice(2));
