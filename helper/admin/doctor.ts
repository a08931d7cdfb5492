/**
 * `lowportd doctor`: the checks that an admin would make by hand, in one go, each ok or with its cure. It changes nothing, and
 * tells what it cannot see without root. `lowport doctor` is the same, for a user who does not know where lowportd is.
 */
import { spawnSync } from "node:child_process";
import { lstatSync, readdirSync, realpathSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { message_of } from "../../shared/errors.js";
import { pid_file_of, read_pid_file } from "../../shared/pid-file.js";
import { DEFAULT_CONFIG, DEFAULT_SOCKET, EXIT } from "../../shared/protocol.js";
import { type Config, ConfigFault, load_config } from "../config.js";
import type { User } from "../posix.js";
import { read_options } from "./arguments.js";
import { type Answer, check_answer, check_pid_file, check_privileges, check_socket } from "./doctor-process.js";
import { check_drift, check_loads, check_loose_program, check_release, check_service, type Loads } from "./doctor-program.js";
import { check_audit_log, check_chain, check_clock, check_disk, no_config, type Verdict } from "./doctor-record.js";
import { type Finding, type Result, run_check, unknown, unless_wrong, wrong } from "./findings.js";
import { type InstallRecord, read_record } from "./record.js";
import { LIBRARY, PROGRAM } from "./sources.js";

const CLI = fileURLToPath(new URL("../../client/cli.js", import.meta.url));
/** Milliseconds that it may take; a log of many gigabytes is verified in that time. */
const LIMIT_MS = 1_800_000;
/** Bytes of what `lowport` may say: a damaged log can have many lines. */
const MAX_OUTPUT = 64 << 20;

/** What `lowport --json` says to these words. */
function ask_lowport(...args: string[]): object {
  const { stdout, error } = spawnSync(process.execPath, [CLI, ...args, "--json"], {
    encoding: "utf8",
    env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
    maxBuffer: MAX_OUTPUT,
    stdio: ["ignore", "pipe", "ignore"],
    timeout: LIMIT_MS,
  });
  if (error !== undefined) throw error;
  const answer = JSON.parse(stdout) as { error?: { code: string; message: string } };
  if (answer.error !== undefined && !("state" in answer))
    throw Object.assign(new Error(answer.error.message), { code: answer.error.code });
  return answer;
}

/** Whether a user may read a file of root's, or look into a folder of root's. */
function is_readable(path: string, { gid: group }: User): boolean {
  const { mode, gid } = lstatSync(path);
  return (mode & 0o004) !== 0 || (gid === group && (mode & 0o040) !== 0);
}

/** The configuration, or each fault of it. */
function read_config(file: string): { config: Config | undefined; results: readonly Result[] } {
  try {
    const config = load_config(file);
    const folder = join(dirname(file), "rules.d");
    const rules =
      lstatSync(folder, { throwIfNoEntry: false }) === undefined ? [] : readdirSync(folder).map((name) => join(folder, name));
    const closed = [dirname(file), file, ...(rules.length > 0 ? [folder, ...rules] : [])].filter(
      (path) => !is_readable(path, config.user),
    );
    const results = closed.map((path) =>
      wrong(`${path} cannot be read by ${config.user.name}, so SIGHUP takes no new rules`, `chmod o+rX ${path}`),
    );
    return { config, results: unless_wrong(results, `${file} is valid and root's alone, ${config.policy.rules.length} rules`) };
  } catch (error) {
    const faults = error instanceof ConfigFault ? error.faults : [message_of(error)];
    const unseen = process.getuid?.() !== 0 && faults.every((fault) => fault.includes("cannot be read by this user"));
    if (unseen) return { config: undefined, results: [unknown(`needs root: ${faults.join("; ")}`, "sudo lowportd doctor")] };
    const none = lstatSync(file, { throwIfNoEntry: false }) === undefined;
    const cure = none ? "sudo lowportd install writes one" : "put it right, then kill -HUP or restart it";
    return { config: undefined, results: faults.map((fault) => wrong(fault, cure)) };
  }
}

/** The release that is installed: its folder. */
function find_release(): string | undefined {
  try {
    return realpathSync(join(LIBRARY, "current"));
  } catch {
    return undefined;
  }
}

/** What is recorded of an install; as text, why that cannot be read. */
function find_record(): InstallRecord | undefined | string {
  try {
    return read_record();
  } catch (error) {
    return message_of(error);
  }
}

const NOT_INSTALLED = [unknown("is not installed as a service", "sudo lowportd install")];

/** All checks, in the order of a life: program, configuration, process, record, service. */
export async function examine(file: string): Promise<Finding[]> {
  const release = find_release();
  const record = find_record();
  const { config, results } = read_config(file);
  const path = config?.socket.path ?? DEFAULT_SOCKET;
  const answer = ask_lowport("status", "--socket", path) as Answer;
  const pid_file = read_pid_file(pid_file_of(path));
  const pid = answer.pid ?? (pid_file?.alive === true ? pid_file.pid : undefined);

  const program = await run_check("program", () =>
    release === undefined
      ? check_loose_program([process.execPath, join(PROGRAM, "dist/helper/main.js")])
      : check_release(release),
  );
  const sound = release === undefined || program.every(({ state }) => state === "ok");
  const untried = unknown("not tried, because the program is not as it was installed");
  const [node, folder] = release === undefined ? [process.execPath, PROGRAM] : [join(release, "node"), release];
  const loads: Loads = sound ? check_loads(node, folder) : { node: untried, posix: untried, addon: untried };

  const with_config = (look: (known: Config) => readonly Result[]) => () => (config === undefined ? no_config : look(config));
  const with_record = (look: (known: InstallRecord) => readonly Result[] | Promise<readonly Result[]>) => () =>
    record === undefined ? NOT_INSTALLED : typeof record === "string" ? [wrong(record, "sudo lowportd install")] : look(record);
  const reach = answer.auditSeq === undefined ? [] : ["--reach", String(answer.auditSeq)];
  const verify = (files: readonly string[]) => ask_lowport("audit", "verify", ...reach, ...files) as Verdict;

  const checks: [string, () => readonly Result[] | Promise<readonly Result[]>][] = [
    ["config", () => results],
    ["answer", () => check_answer(answer)],
    ["privileges", with_config(({ user }) => check_privileges(pid, user))],
    ["pid-file", () => check_pid_file(path, pid, typeof record === "object")],
    ["socket", with_config(({ socket }) => check_socket(socket))],
    ["audit-log", with_config(({ audit, user }) => check_audit_log(audit.path, user))],
    ["audit-chain", with_config(({ audit }) => check_chain(audit.path, verify))],
    [
      "clock",
      with_config(({ audit }) => check_clock(join(folder, release === undefined ? "package.json" : "manifest.json"), audit.path)),
    ],
    ["disk", with_config(({ audit, socket }) => check_disk(dirname(audit.path), dirname(socket.path)))],
    ["drift", with_record(check_drift)],
    ["service", with_record(check_service)],
  ];
  const findings = [...program, ...Object.entries(loads).map(([check, result]) => ({ check, ...result }))];
  for (const [check, look] of checks) findings.push(...(await run_check(check, look)));
  return findings;
}

/** A finding as a line: what, how it is, why, and what to do. */
export function describe({ check, state, detail, cure }: Finding): string {
  const head = `${(state === "wrong" ? "WRONG" : state).padEnd(8)} ${check.padEnd(12)} ${detail}`;
  return cure === "" ? head : `${head}. Cure: ${cure}`;
}

const OPTIONS = {
  config: { type: "string", default: DEFAULT_CONFIG },
  json: { type: "boolean", default: false },
} as const;

/** Ends the process: 0, or 2 if something is wrong. */
export async function doctor(args: readonly string[]): Promise<never> {
  const { config, json } = read_options(args, OPTIONS);
  const findings = await examine(resolve(config));
  process.stdout.write(`${json ? JSON.stringify(findings) : findings.map(describe).join("\n")}\n`);
  process.exit(findings.some(({ state }) => state === "wrong") ? EXIT.foundWrong : EXIT.ok);
}
