/**
 * The real daemon, started as root in the box the way a service would be, and what can be seen of it from outside: what
 * it says on stderr, its audit log, its descriptors, its threads. The chain is verified here by code of its own, written
 * from protocol.md and not from shared/chain.ts, so that a fault there cannot hide itself.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { chownSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";
import { NODE_FLAGS } from "../../shared/node-flags.js";
import { REPOSITORY, USERS } from "./box.js";

export const CONFIG = "/etc/lowport/lowport.json";
export const AUDIT_FOLDER = "/var/log/lowport";
export const AUDIT = `${AUDIT_FOLDER}/audit.log`;
const MAIN = join(REPOSITORY, "dist/helper/main.cjs");
/** Milliseconds that anything may take before a test gives up; far beyond what it does take. */
const DEADLINE = 20_000;

/** The rule most tests want: alice by name, carol by a supplementary group. */
export const WEB_RULE = {
  name: "web",
  users: ["alice"],
  groups: ["web"],
  protocols: ["tcp", "udp"],
  ports: [80, 443, "800-899"],
  maxHoldSeconds: 60,
  reusePort: true,
};

export interface Options {
  /** Members of lowport.json in place of the tests' defaults. */
  readonly config?: Record<string, unknown>;
  readonly rules?: readonly object[];
  /** Files of rules.d by name. */
  readonly rulesD?: Record<string, object>;
  readonly env?: Record<string, string>;
  /** A command line that starts the helper, such as `prlimit --nofile=64`. */
  readonly wrapper?: readonly string[];
  /** Keeps configuration, audit log and control socket of the helper before. */
  readonly keep?: boolean;
  readonly nodeFlags?: readonly string[];
  readonly args?: readonly string[];
}

export interface AuditLine {
  readonly seq: number;
  readonly time: string;
  readonly event: string;
  readonly peer?: { pid: number; uid: number; gid: number; groups: number[] };
  readonly conn?: number;
  readonly method?: string;
  readonly id?: string | number;
  readonly params?: Record<string, unknown>;
  readonly decision?: string;
  readonly rule?: string;
  readonly code?: string | number;
  readonly reason?: string;
  readonly lease?: string;
  readonly durationUs?: number;
  readonly prev: string;
  readonly hash: string;
}

/** Waits until `condition` gives something that is neither false nor undefined. */
export async function until<T>(what: string, condition: () => T | false | undefined | Promise<T | false | undefined>) {
  const end = performance.now() + DEADLINE;
  for (;;) {
    const value = await condition();
    if (value !== false && value !== undefined) return value;
    if (performance.now() > end) throw new Error(`this did not come to pass: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export function write_config({ config = {}, rules = [WEB_RULE], rulesD = {} }: Options = {}): void {
  rmSync("/etc/lowport", { recursive: true, force: true });
  mkdirSync("/etc/lowport/rules.d", { recursive: true });
  const whole = { audit: { syslog: false }, ...config, rules };
  writeFileSync(CONFIG, JSON.stringify(whole, null, 2));
  for (const [name, content] of Object.entries(rulesD)) writeFileSync(`/etc/lowport/rules.d/${name}`, JSON.stringify(content));
}

/** An audit folder without anything in it. */
export function clear_audit_log(): void {
  mkdirSync(AUDIT_FOLDER, { recursive: true });
  for (const name of readdirSync(AUDIT_FOLDER)) rmSync(join(AUDIT_FOLDER, name), { recursive: true });
  chownSync(AUDIT_FOLDER, USERS.lowport.uid, USERS.lowport.gid);
}

function spawn_helper(options: Options): ChildProcess {
  const { env = {}, wrapper = [], nodeFlags = NODE_FLAGS, args = ["run", "--config", CONFIG] } = options;
  const command = [...wrapper, process.execPath, ...nodeFlags, MAIN, ...args];
  const coverage = process.env["NODE_V8_COVERAGE"];
  return spawn(command[0] as string, command.slice(1), {
    cwd: "/",
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", ...(coverage ? { NODE_V8_COVERAGE: coverage } : {}), ...env },
  });
}

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the helper's program for what ends by itself; configuration and log stay as they are. */
export async function run_helper(t: TestContext, options: Options = {}): Promise<Outcome> {
  const child = spawn_helper(options);
  t.after(() => child.kill("SIGKILL"));
  let stdout = "";
  let stderr = "";
  child.stdout?.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
    if (text.includes('"msg":"ready"')) child.kill("SIGKILL"); // it should have refused
  });
  const [code] = (await once(child, "close")) as [number | null];
  return { code, stdout, stderr };
}

/** Starts the helper on a fresh configuration, log and control socket, and waits until it is ready. */
export async function start_helper(t: TestContext, options: Options = {}): Promise<Helper> {
  if (options.keep !== true) {
    write_config(options);
    clear_audit_log();
    rmSync("/run/lowport", { recursive: true, force: true });
  }
  const helper = new Helper(spawn_helper(options));
  t.after(() => helper.kill());
  await helper.said("ready");
  return helper;
}

export class Helper {
  readonly process: ChildProcess;
  readonly stderr: string[] = [];
  #ended: Promise<unknown>;
  #has_ended = false;

  constructor(child: ChildProcess) {
    this.process = child;
    createInterface({ input: child.stderr as NodeJS.ReadableStream }).on("line", (line) => this.stderr.push(line));
    child.stdout?.resume();
    this.#ended = once(child, "close").then(() => (this.#has_ended = true));
  }

  get pid(): number {
    return this.process.pid as number;
  }

  get alive(): boolean {
    return !this.#has_ended && this.process.exitCode === null && existsSync(`/proc/${this.pid}`);
  }

  /** Waits for a message of the service log, `nth` of its kind, and gives its line as an object. */
  said(message: string, nth = 1): Promise<Record<string, unknown>> {
    return until(`the helper says "${message}"`, () => {
      const lines = this.stderr.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
      const found = lines.filter((line) => line.msg === message)[nth - 1] as Record<string, unknown> | undefined;
      if (found === undefined && this.#has_ended)
        throw new Error(`the helper ended with ${this.process.exitCode}: ${this.stderr.join("\n")}`);
      return found;
    });
  }

  audit(): AuditLine[] {
    return read_audit();
  }

  /** Waits for a line of the audit log. */
  recorded(what: string, matches: (line: AuditLine) => boolean): Promise<AuditLine> {
    return until(`the audit log has ${what}`, () => this.audit().find(matches));
  }

  fd_count(): number {
    return readdirSync(`/proc/${this.pid}/fd`).length;
  }

  /** Resident memory in KiB. */
  memory(): number {
    return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${this.pid}/status`, "utf8"))?.[1]);
  }

  /** Ends it by a signal and gives its exit code (null: the signal killed it). */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<number | null> {
    this.process.kill(signal);
    return this.ended();
  }

  /** Waits for its end and gives its exit code. */
  async ended(): Promise<number | null> {
    await this.#ended;
    return this.process.exitCode;
  }

  /** Ends it, gently first, so that it writes its coverage. */
  async kill(): Promise<void> {
    if (this.#has_ended) return;
    const timer = setTimeout(() => this.process.kill("SIGKILL"), 3000);
    this.process.kill("SIGCONT");
    await this.stop("SIGTERM");
    clearTimeout(timer);
  }
}

export function read_audit(file = AUDIT): AuditLine[] {
  const text = readFileSync(file, "utf8");
  return text
    .slice(0, text.lastIndexOf("\n") + 1)
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line) as AuditLine);
}

const MEMBERS = "seq time event peer conn method id params decision rule code reason lease durationUs prev hash".split(" ");

/** Proves the hash chain of a log, from protocol.md alone, and the order of members. @returns how many lines it has */
export function verify_chain(file = AUDIT, first = { seq: 0, hash: "0".repeat(64) }): number {
  const text = readFileSync(file, "utf8");
  assert.ok(text.endsWith("\n"), "the last line is whole");
  let before = first;
  const lines = text.split("\n").slice(0, -1);
  for (const line of lines) {
    const record = JSON.parse(line) as AuditLine;
    const member = `,"hash":"${record.hash}"`;
    assert.ok(line.endsWith(`${member}}`), `hash stands last: ${line}`);
    const body = `${line.slice(0, -member.length - 1)}}`;
    assert.equal(createHash("sha256").update(body).digest("hex"), record.hash, line);
    assert.equal(record.prev, before.hash, line);
    assert.equal(record.seq, before.seq + 1, line);
    assert.match(record.time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    assert.deepEqual(
      Object.keys(record),
      MEMBERS.filter((name) => name in record),
      "the order of members",
    );
    before = record;
  }
  return lines.length;
}
