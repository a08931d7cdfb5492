/**
 * `lowportd doctor`: the checks that an admin would make by hand, in one go, each ok or with its cure. It changes nothing, and
 * tells what it cannot see without root. `lowport doctor` is the same, for a user who does not know where lowportd is.
 */
import { spawnSync } from "node:child_process";
import { realpathSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { message_of } from "../../shared/errors.js";
import { pid_file_of, read_pid_file } from "../../shared/pid-file.js";
import { DEFAULT_CONFIG, DEFAULT_SOCKET, EXIT } from "../../shared/protocol.js";
import { read_options } from "./arguments.js";
import { check_config, type Known, read_config } from "./doctor-config.js";
import { type Answer, check_answer, check_exec, check_pid_file, check_privileges, check_socket } from "./doctor-process.js";
import { check_drift, check_loads, check_loose_program, check_release, type Loads } from "./doctor-program.js";
import { check_audit_log, check_chain, check_clock, check_disk, no_config, type Verdict } from "./doctor-record.js";
import { check_service, check_units } from "./doctor-units.js";
import { type Finding, type Result, run_check, unknown, wrong } from "./findings.js";
import { type InstallRecord, read_record } from "./record.js";
import { LIBRARY, PROGRAM } from "./sources.js";

const CLI = fileURLToPath(new URL("../../client/cli.js", import.meta.url));
/** Milliseconds that an answer of the helper's may take, and the log: one of many gigabytes is verified in that time. */
const LIMIT_MS = { status: 30_000, audit: 1_800_000 };
/** Bytes of what `lowport` may say: a damaged log can have many lines. */
const MAX_OUTPUT = 64 << 20;

/** What `lowport --json` says to these words. It is killed if it takes too long: whoever owns helper and log may wish that. */
function ask_lowport(command: keyof typeof LIMIT_MS, ...args: string[]): object {
  const { stdout, error } = spawnSync(process.execPath, [CLI, command, ...args, "--json"], {
    encoding: "utf8",
    env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
    killSignal: "SIGKILL",
    maxBuffer: MAX_OUTPUT,
    stdio: ["ignore", "pipe", "ignore"],
    timeout: LIMIT_MS[command],
  });
  if (error !== undefined) throw error;
  const answer = JSON.parse(stdout) as { error?: { code: string; message: string } };
  if (answer.error !== undefined && !("state" in answer))
    throw Object.assign(new Error(answer.error.message), { code: answer.error.code });
  return answer;
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
  const reading = read_config(file);
  const { known } = reading;
  const path = known?.socket.path ?? DEFAULT_SOCKET;
  const init = typeof record === "object" ? record.init : undefined;
  const answer = ask_lowport("status", "--socket", path) as Answer;
  const pid_file = read_pid_file(pid_file_of(path));
  const pid = answer.pid ?? (pid_file?.alive === true ? pid_file.pid : undefined);

  const program = await run_check("program", () =>
    release === undefined
      ? check_loose_program([process.execPath, join(PROGRAM, "dist/helper/main.cjs")])
      : check_release(release),
  );
  const sound = release === undefined || program.every(({ state }) => state === "ok");
  const untried = unknown("not tried, because the program is not as it was installed");
  const [node, folder] = release === undefined ? [process.execPath, PROGRAM] : [join(release, "node"), release];
  const loads: Loads = sound ? check_loads(node, folder) : { node: untried, posix: untried, addon: untried };

  const with_config = (look: (config: Known) => readonly Result[]) => () => (known === undefined ? no_config : look(known));
  const with_record = (look: (found: InstallRecord) => readonly Result[] | Promise<readonly Result[]>) => () =>
    record === undefined ? NOT_INSTALLED : typeof record === "string" ? [wrong(record, "sudo lowportd install")] : look(record);
  const reach = answer.auditSeq === undefined ? [] : ["--reach", String(answer.auditSeq)];
  const verify = (files: readonly string[]) => ask_lowport("audit", "verify", ...reach, ...files) as Verdict;

  const checks: [string, () => readonly Result[] | Promise<readonly Result[]>][] = [
    ["config", () => check_config(reading, answer, init)],
    ["answer", () => check_answer(answer, init)],
    ["privileges", with_config(({ user }) => check_privileges(pid, user))],
    ["pid-file", () => check_pid_file(path, answer.pid, init)],
    ["socket", with_config(({ socket }) => check_socket(socket, init))],
    ["exec", () => check_exec()],
    ["audit-log", with_config(({ audit, user }) => check_audit_log(audit.path, user, answer.state === "running"))],
    ["audit-chain", with_config(({ audit }) => check_chain(audit.path, verify))],
    [
      "clock",
      with_config(({ audit }) => check_clock(join(folder, release === undefined ? "package.json" : "manifest.json"), audit.path)),
    ],
    ["disk", with_config(({ audit, socket }) => check_disk(dirname(audit.path), dirname(socket.path)))],
    ["drift", with_record(async (found) => [...check_drift(found), ...(await check_units(found))])],
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
