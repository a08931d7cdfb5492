#!/usr/bin/env node
/** The `lowport` command: asks the helper, and verifies its audit log. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { LeaseEntry } from "../shared/methods.js";
import { NODE_FLAGS } from "../shared/node-flags.js";
import { EXIT, VERSION } from "../shared/protocol.js";
import { LowportError } from "./errors.js";
import { type Client, connect } from "./index.js";
import { describe_running, find_helper } from "./status.js";
import { verify_audit } from "./verify.js";

const USAGE = `lowport ${VERSION}: asks the lowport helper

  lowport status [--wait SECONDS]        is it running (and until when to wait for that), and whom it takes me for
  lowport doctor [--config FILE]         what an admin would check: each ok, or with its cure (as root it sees more)
  lowport list                           my leases; an operator sees those of all
  lowport check PROTOCOL PORT [ADDRESS]  may I have it, by which rule, and if not what is nearest
        [--uid UID] [--ipv6-only]
  lowport revoke LEASE                   take a socket back (operators)
  lowport audit verify FILE...           verify the log; rotated files oldest first
        [--reach SEQ]                    and that it goes at least to that record

  --json            the answer as JSON
  --socket PATH     default: LOWPORT_SOCKET, else /run/lowport/lowport.sock
  --help, --version

Example: lowport check tcp 443 192.0.2.1
Exit: 0 ok, 1 refused, 2 the audit log is damaged, 64 usage, 69 helper not reachable, 77 no permission.
`;

const OPTIONS = {
  json: { type: "boolean", default: false },
  socket: { type: "string" },
  wait: { type: "string" },
  config: { type: "string" },
  uid: { type: "string" },
  "ipv6-only": { type: "boolean", default: false },
  reach: { type: "string" },
  help: { type: "boolean", short: "h" },
  version: { type: "boolean" },
} as const;

class Usage extends Error {}

/** What a command found: as data, as text, and how the process ends. */
interface Answer {
  readonly data: unknown;
  readonly text: string;
  readonly exit: number;
  /** The text goes to stderr. */
  readonly complains?: boolean;
}

type Values = ReturnType<typeof read_args>["values"];
type Command = (args: string[], values: Values) => Promise<Answer>;

function read_args(args: string[]) {
  try {
    return parseArgs({ args, options: OPTIONS, allowPositionals: true });
  } catch (error) {
    throw new Usage((error as Error).message);
  }
}

function read_number(text: string | undefined, what: string, max: number): number {
  const number = Number(text);
  if (text === undefined || !/^[0-9]+$/.test(text) || number > max) throw new Usage(`${what} must be a number up to ${max}`);
  return number;
}

function take(args: string[], least: number, most: number): string[] {
  if (args.length < least || args.length > most) throw new Usage("a word is missing, or one too many");
  return args;
}

/** A file that is not there is a word of the command that is wrong. */
function read_files<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    const { code = "", message } = error as NodeJS.ErrnoException;
    throw ["ENOENT", "EISDIR", "ENOTDIR", "EFBIG"].includes(code) ? Object.assign(new Usage(message), { code }) : error;
  }
}

async function with_helper<T>({ socket }: Values, work: (client: Client) => Promise<T>): Promise<T> {
  const client = await connect({ socket });
  try {
    return await work(client);
  } finally {
    client.close();
  }
}

function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]?.map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0))) ?? [];
  return rows
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

function lease_table(leases: readonly LeaseEntry[]): string {
  if (leases.length === 0) return "no leases";
  const rows = leases.map((l) => [
    l.lease,
    String(l.uid),
    l.protocol,
    l.address,
    String(l.port),
    l.state,
    `${l.hold} s`,
    l.since,
    l.label,
  ]);
  return table([["LEASE", "UID", "PROTO", "ADDRESS", "PORT", "STATE", "HOLD", "SINCE", "LABEL"], ...rows]);
}

const commands: Record<string, Command> = {
  status: async (args, values) => {
    take(args, 0, 0);
    const wait = values.wait === undefined ? 0 : read_number(values.wait, "--wait", 86_400);
    const data = await find_helper(values.socket, wait);
    if (data.state === "running") return { data, text: describe_running(data), exit: EXIT.ok };
    const forbidden = FORBIDDEN.has(data.error.code);
    return { data, text: data.error.message, exit: forbidden ? EXIT.noPermission : EXIT.unreachable, complains: true };
  },
  list: async (args, values) => {
    take(args, 0, 0);
    const leases = await with_helper(values, (client) => client.list());
    return { data: { leases }, text: lease_table(leases), exit: EXIT.ok };
  },
  check: async (args, values) => {
    const [protocol, port, address] = take(args, 2, 3);
    if (protocol !== "tcp" && protocol !== "udp") throw new Usage(`the protocol is tcp or udp, not "${protocol}"`);
    const where = address === undefined ? {} : { address };
    const who = values.uid === undefined ? {} : { uid: read_number(values.uid, "--uid", 4_294_967_295) };
    const params = {
      protocol,
      port: read_number(port, "the port", 65_535),
      ipv6Only: values["ipv6-only"],
      ...where,
      ...who,
    } as const;
    const data = await with_helper(values, (client) => client.call("check", params));
    return {
      data,
      text: `${data.allowed ? "allowed" : "not allowed"}: ${data.reason}`,
      exit: data.allowed ? EXIT.ok : EXIT.refused,
    };
  },
  revoke: async (args, values) => {
    const [lease = ""] = take(args, 1, 1);
    const data = await with_helper(values, (client) => client.call("revoke", { lease }));
    return { data, text: `revoked ${lease}`, exit: EXIT.ok };
  },
  audit: async ([verb, ...files], values) => {
    if (verb !== "verify") throw new Usage("the command is `audit verify FILE...`");
    take(files, 1, Number.POSITIVE_INFINITY);
    const reach = values.reach === undefined ? 0 : read_number(values.reach, "--reach", Number.MAX_SAFE_INTEGER);
    const data = read_files(() => verify_audit(files, reach));
    const damage = data.damage.map(({ file, line, kind, reason }) => `${file}:${line}: ${kind}: ${reason}`);
    const end = `${data.lines} lines, records ${data.first ?? "none"} to ${data.head?.seq ?? "none"}, head ${data.head?.hash ?? "none"}`;
    const text = damage.length > 0 ? [...damage, `DAMAGED: ${end}`].join("\n") : `ok: ${end}`;
    return { data, text, exit: damage.length > 0 ? EXIT.foundWrong : EXIT.ok };
  },
};

const FORBIDDEN = new Set(["EACCES", "EPERM"]);
/** Errors of a connection that is not there, breaks, or leads to something else. */
const UNREACHABLE = new Set(["ETIMEDOUT", "ECONNRESET", "EPROTO"]);

function exit_of(error: unknown): number {
  if (error instanceof Usage) return EXIT.usage;
  const { code = "" } = error as NodeJS.ErrnoException;
  const forbidden = FORBIDDEN.has(code);
  if (!(error instanceof LowportError)) return forbidden ? EXIT.noPermission : EXIT.bug;
  if (error.syscall === "connect") return forbidden ? EXIT.noPermission : EXIT.unreachable;
  return UNREACHABLE.has(code) ? EXIT.unreachable : EXIT.refused;
}

/** `lowport doctor` is lowportd's, which knows what the helper needs. It may not be started with a stranger's environment. */
function run_doctor(args: string[], { json, config }: Values): void {
  take(args, 0, 0);
  const helper = fileURLToPath(new URL("../helper/main.js", import.meta.url));
  const options = [...(json ? ["--json"] : []), ...(config === undefined ? [] : ["--config", config])];
  const env = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" };
  const { status, error } = spawnSync(process.execPath, [...NODE_FLAGS, helper, "doctor", ...options], { stdio: "inherit", env });
  if (error !== undefined) throw error;
  process.exitCode = status ?? EXIT.bug;
}

async function main(): Promise<void> {
  let json = process.argv.includes("--json");
  try {
    const { values, positionals } = read_args(process.argv.slice(2));
    json = values.json;
    const [name, ...args] = positionals;
    if (values.help === true || values.version === true)
      return void process.stdout.write(values.help === true ? USAGE : `lowport ${VERSION}\n`);
    if (name === "doctor") return run_doctor(args, values);
    const command = name !== undefined && Object.hasOwn(commands, name) ? commands[name] : undefined;
    if (command === undefined) throw new Usage(name === undefined ? "which command?" : `there is no command "${name}"`);
    const { data, text, exit, complains } = await command(args, values);
    if (json || !complains) process.stdout.write(`${json ? JSON.stringify(data) : text}\n`);
    if (complains) process.stderr.write(`lowport: ${text}\n`);
    process.exitCode = exit;
  } catch (error) {
    const { message, code } = error as NodeJS.ErrnoException;
    if (json) process.stdout.write(`${JSON.stringify({ error: { code: code ?? "ERR_LOWPORT_USAGE", message } })}\n`);
    process.stderr.write(`lowport: ${message}${error instanceof Usage ? "; see lowport --help" : ""}\n`);
    process.exitCode = exit_of(error);
  }
}

void main();
