/**
 * Programs under `lowport exec`, as processes of unprivileged users: started the way a shell starts them, seen from outside
 * by what they print, how they end and what they serve.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import dgram from "node:dgram";
import { once } from "node:events";
import { chownSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import net from "node:net";
import { join } from "node:path";
import process from "node:process";
import type { TestContext } from "node:test";
import { REPOSITORY, type User } from "./box.js";
import { as_user } from "./client-app.js";
import { until } from "./helper-process.js";

const CLI = join(REPOSITORY, "dist/client/cli.js");
const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** The Node that `lowport exec` runs on: the tests' own, or another that is to be tried. */
export const NODE = process.env["LOWPORT_TEST_EXEC_NODE"] ?? process.execPath;

/** The command line of `lowport exec`. */
export const exec = (...args: string[]) => [NODE, CLI, "exec", ...args];

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** A command line that starts the program, such as `prlimit --nofile=64`. */
  readonly wrapper?: readonly string[];
  readonly cwd?: string;
  /** Descriptors of this process that it inherits, from 3 on. */
  readonly inherit?: readonly number[];
}

export interface Result {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A command of a user. It is killed when the test ends. */
export class Program {
  readonly process: ChildProcess;
  stdout = "";
  stderr = "";
  readonly #ended: Promise<Result>;
  #result: Result | undefined;

  constructor(t: TestContext, user: User, command: readonly string[], options: RunOptions = {}) {
    const whole = [...as_user(user), ...(options.wrapper ?? []), ...command];
    const child = spawn(whole[0] as string, whole.slice(1), {
      cwd: options.cwd ?? "/",
      stdio: ["pipe", "pipe", "pipe", ...(options.inherit ?? [])],
      env: { PATH, HOME: "/nonexistent", ...options.env },
    });
    this.process = child;
    t.after(() => child.kill("SIGKILL"));
    child.stdout?.setEncoding("utf8").on("data", (text: string) => (this.stdout += text));
    child.stderr?.setEncoding("utf8").on("data", (text: string) => (this.stderr += text));
    child.stdin?.on("error", () => undefined);
    this.#ended = once(child, "close").then((result) => {
      const [code, signal] = result as [number | null, NodeJS.Signals | null];
      this.#result = { code, signal, stdout: this.stdout, stderr: this.stderr };
      return this.#result;
    });
  }

  get pid(): number {
    return this.process.pid as number;
  }

  /** Waits until it has printed what matches, on stdout or stderr. */
  printed(pattern: RegExp): Promise<RegExpExecArray> {
    return until(`the program prints ${pattern}`, () => {
      const found = pattern.exec(this.stdout) ?? pattern.exec(this.stderr);
      if (found === null && this.#result !== undefined)
        throw new Error(`the program ended before it printed ${pattern}: ${JSON.stringify(this.#result)}`);
      return found ?? undefined;
    });
  }

  /** Waits until something is served; it must not end before. */
  serves<T>(ask: () => Promise<T>): Promise<T> {
    let last = "nothing yet";
    return until("the program serves", async () => {
      if (this.#result !== undefined) throw new Error(`the program ended: ${JSON.stringify(this.#result)}`);
      return ask().catch((error: Error) => void (last = error.message));
    }).catch((error: Error) => {
      throw new Error(`${error.message} (${last}); stdout: ${this.stdout}; stderr: ${this.stderr}`);
    });
  }

  ended(): Promise<Result> {
    return this.#ended;
  }

  /** Ends it by a signal. */
  async kill(signal: NodeJS.Signals = "SIGTERM"): Promise<Result> {
    this.process.kill(signal);
    return this.#ended;
  }
}

/** Runs a command of a user to its end. */
export function run(t: TestContext, user: User, command: readonly string[], options?: RunOptions): Promise<Result> {
  const program = new Program(t, user, command, options);
  program.process.stdin?.end();
  return program.ended();
}

/** Processes that are supervisors of `lowport exec`. */
export function supervisors(): number[] {
  return readdirSync("/proc")
    .map(Number)
    .filter((pid) => {
      try {
        return pid > 0 && readFileSync(`/proc/${pid}/cmdline`, "utf8").startsWith("lowport exec, beside");
      } catch {
        return false;
      }
    });
}

/** Waits until there is no supervisor any more. */
export const no_supervisors = () => until("the supervisors have ended", () => supervisors().length === 0);

/** Where a program stands, or undefined where it is not installed. */
export function where_is(name: string): string | undefined {
  return PATH.split(":")
    .map((folder) => join(folder, name))
    .find((path) => existsSync(path));
}

/** Skips a test where a program is missing, loudly; fails it where none may skip (LOWPORT_NO_SKIP, which .ci/run sets). */
export function lacks(t: TestContext, name: string, debian: string): boolean {
  if (where_is(name) !== undefined) return false;
  const reason = `MISSING: ${name} (Debian: apt-get install ${debian})`;
  if (process.env["LOWPORT_NO_SKIP"] !== undefined) assert.fail(reason);
  t.skip(reason);
  return true;
}

/** A folder that belongs to a user. */
export function folder_of(user: User, name: string): string {
  const path = `/run/${name}`;
  mkdirSync(path, { recursive: true });
  chownSync(path, user.uid, user.gid);
  return path;
}

/** Runs a tool as root and gives what it prints. */
export function tool(command: string, ...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: "utf8", env: { ...process.env, PATH } });
  if (error !== undefined || status !== 0) throw new Error(`${command} ${args.join(" ")}: ${error?.message ?? stderr}`);
  return stdout;
}

/** Whether a TCP connection comes to be. */
export function connects(port: number, host = "127.0.0.1"): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(port, host);
    socket.on("connect", () => resolve(true) ?? socket.destroy());
    socket.on("error", () => resolve(false));
  });
}

/** What a UDP service answers. @throws if nothing comes within a second */
export function ask_udp(port: number, query: Buffer, host = "127.0.0.1"): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = dgram.createSocket("udp4");
    const timer = setTimeout(() => socket.close(() => reject(new Error("no answer"))), 1000);
    socket.once("message", (answer) => {
      clearTimeout(timer);
      socket.close(() => resolve(answer));
    });
    socket.once("error", reject);
    socket.send(query, port, host);
  });
}
