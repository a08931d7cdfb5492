/** The daemons that are measured: lowport as it ships, in several states, and the same work in C. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chownSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { NODE_FLAGS } from "../../shared/node-flags.js";
import { LOWPORT_GID, REPOSITORY, USERS } from "../e2e/box.js";
import { as_user } from "../e2e/client-app.js";
import { type Contender, type Figure, figure_of } from "./compare.js";
import { CPU, compile, OTHER_CPU, pinned } from "./machine.js";
import { ENV, type Ends, FOLDER } from "./peers/beside.js";

/** A folder on the machine's own disk: those of the box are in memory, where fsync(2) costs nothing. */
const DISK = process.env["LOWPORT_BENCH_DISK"] ?? FOLDER;
const ENOUGH = 1_000_000;
/** All limits are in force, and none is reached: what is measured is the work. */
const LIMITS = {
  connections: ENOUGH,
  connectionsPerUid: ENOUGH,
  socketsPerUid: ENOUGH,
  requestsPerSecond: ENOUGH,
  requestBurst: ENOUGH,
};
/** Grants that do not count, until Node has compiled what runs. */
const WARM_UP = 5000;

export interface State {
  readonly flags?: readonly string[];
  readonly durability?: "write" | "fsync";
  /** Rules of others, before the one that allows it. */
  readonly rules?: number;
  /** Fills the audit log before the start. */
  readonly fill_log?: (file: string) => void;
}

export interface Daemon {
  readonly name: string;
  readonly socket: string;
  readonly process: ChildProcess;
  /** The audit log. */
  readonly log: string;
}

function folder_of(name: string): string {
  const folder = join(DISK, name.replaceAll(/[^a-z0-9]+/gi, "-"));
  mkdirSync(folder, { recursive: true });
  chownSync(folder, USERS.lowport.uid, USERS.lowport.gid);
  return folder;
}

/** The configuration of a daemon. @returns its file */
function configure(name: string, socket: string, log: string, { durability = "write", rules = 10_000 }: State): string {
  const others = Array.from({ length: rules }, (_, i) => ({ name: `r${i}`, users: [10_000 + i], ports: [1 + (i % 1023)] }));
  const bench = { name: "bench", users: [USERS.alice.uid], ports: ["1-1023"], maxSockets: ENOUGH };
  const file = join("/etc/lowport", `${name.replaceAll(/[^a-z0-9]+/gi, "-")}.json`);
  mkdirSync("/etc/lowport", { recursive: true });
  const audit = { path: log, durability, syslog: false };
  writeFileSync(file, JSON.stringify({ socket: { path: socket }, audit, limits: LIMITS, rules: [...others, bench] }));
  return file;
}

/** A command line of the daemon on the processor of all that is measured. */
export function lowport_command(name: string, state: State): { command: string[]; socket: string; log: string } {
  const folder = folder_of(name);
  const log = join(folder, "audit.log");
  const socket = `/run/${name.replaceAll(/[^a-z0-9]+/gi, "-")}/lowport.sock`;
  const config = configure(name, socket, log, state);
  state.fill_log?.(log);
  const { flags = NODE_FLAGS } = state;
  const main = join(REPOSITORY, "dist/helper/main.cjs");
  return { command: pinned(CPU, process.execPath, ...flags, main, "run", "--config", config, "--ready-fd", "3"), socket, log };
}

/** Starts a command that says on descriptor 3 when it is ready, and waits for that. */
export async function start_ready(command: readonly string[]): Promise<ChildProcess> {
  const [program = "", ...args] = command;
  const child = spawn(program, args, { cwd: "/", env: ENV, stdio: ["ignore", "ignore", "pipe", "pipe"] });
  let stderr = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const ended = once(child, "close").then(() => new Error(`${command.join(" ")} has ended: ${stderr}`));
  const said = await Promise.race([once(child.stdio[3] as NodeJS.ReadableStream, "data"), ended]);
  if (said instanceof Error) throw said;
  return child;
}

/** Ends a process at once, and waits for it. */
export async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, "exit");
  child.kill("SIGKILL");
  await closed;
}

export async function start_lowport(ends: Ends, name: string, state: State = {}): Promise<Daemon> {
  const { command, socket, log } = lowport_command(name, state);
  const child = await start_ready(command);
  ends.after(() => kill(child));
  const daemon = { name, socket, log, process: child };
  await load(daemon, "warm", WARM_UP);
  return daemon;
}

export async function start_reference(ends: Ends, name: string, durability: "write" | "fsync" = "write"): Promise<Daemon> {
  const program = compile("reference", "-ldl");
  const log = join(folder_of(name), "audit.log");
  const socket = `${FOLDER}/${name}.sock`;
  rmSync(socket, { force: true });
  const child = await start_ready(["sh", "-c", 'exec "$@" >&3', "sh", ...pinned(CPU, program, socket, log, durability)]);
  ends.after(() => kill(child));
  return { name, socket, log, process: child };
}

/** Node with the same system calls and record, and nothing else. */
export async function start_node_alone(ends: Ends, name: string, flags: readonly string[] = []): Promise<Daemon> {
  const log = join(folder_of(name), "audit.log");
  const socket = `${FOLDER}/${name}.sock`;
  rmSync(socket, { force: true });
  const program = join(REPOSITORY, "dist/test/bench/peers/node-alone.js");
  const child = await start_ready(pinned(CPU, process.execPath, ...flags, program, socket, log));
  ends.after(() => kill(child));
  const daemon = { name, socket, log, process: child };
  await load(daemon, "warm", WARM_UP);
  return daemon;
}

let program: string | undefined;
/** The command line of the load, as the user whom the rule allows. */
export function load_command(daemon: Daemon, cpu: number, ...args: (string | number)[]): string[] {
  program ??= compile("load");
  return pinned(cpu, ...as_user({ ...USERS.alice, groups: [LOWPORT_GID] }), program, daemon.socket, ...args.map(String));
}

/** Runs the load to its end. @returns the numbers that it prints */
export async function load(daemon: Daemon, ...args: (string | number)[]): Promise<number[]> {
  const cpu = args[0] === "pipelined" ? OTHER_CPU : CPU;
  const [command = "", ...rest] = load_command(daemon, cpu, ...args);
  const { stdout } = await promisify(execFile)(command, rest, { cwd: "/", env: ENV, maxBuffer: 2 ** 28 });
  return stdout.trim().split("\n").map(Number);
}

/** A contender whose rounds are runs of the load; its samples are nanoseconds, told as microseconds. */
export function loaded(daemon: Daemon, ...args: (string | number)[]): Contender {
  return {
    name: daemon.name,
    round: async (): Promise<Figure> => figure_of((await load(daemon, ...args)).map((ns) => ns / 1000)),
  };
}

/** Runs a load that opens something and keeps it until the end. */
export async function keep_open(ends: Ends, daemon: Daemon, ...args: (string | number)[]): Promise<void> {
  const [command = "", ...rest] = load_command(daemon, CPU, ...args);
  const child = spawn(command, rest, { cwd: "/", env: ENV, stdio: ["pipe", "pipe", "inherit"] });
  ends.after(() => kill(child));
  const [said] = await Promise.race([once(child.stdout, "data"), once(child, "exit")]);
  if (String(said).trim() !== "ready") throw new Error(`${args.join(" ")} at ${daemon.name} failed`);
}

/** Resident memory of a process in MB. */
export function memory({ pid }: ChildProcess): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024;
}
