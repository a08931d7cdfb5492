/**
 * Apps that know nothing of lowport, as processes of unprivileged users: a test gives the source as its author would have
 * written it, and the command line that preloads lowport/register. They tell the test what they print.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";
import { REPOSITORY, type User } from "./box.js";
import { as_user, type Ended } from "./client-app.js";
import { until } from "./helper-process.js";

/** A folder like an app's own: lowport is installed in it, and what else the checkout has. */
const FOLDER = "/run/app";

export const PRELOAD = ["--import", "lowport/register"];

export interface PlainOptions {
  /** What stands between `node` and the app. Default: `--import lowport/register`. */
  readonly flags?: readonly string[];
  /** "mjs", or "cjs" for CommonJS. */
  readonly type?: "mjs" | "cjs";
  readonly env?: Readonly<Record<string, string>>;
  readonly args?: readonly string[];
}

function make_folder(): void {
  const modules = join(FOLDER, "node_modules");
  if (mkdirSync(modules, { recursive: true }) === undefined) return;
  symlinkSync(REPOSITORY, join(modules, "lowport"));
  for (const name of readdirSync(join(REPOSITORY, "node_modules")))
    if (!name.startsWith(".")) symlinkSync(join(REPOSITORY, "node_modules", name), join(modules, name));
}

let count = 0;

/** Writes an app into the folder. @returns its path */
export function write_app(source: string, type: "mjs" | "cjs" = "mjs"): string {
  make_folder();
  const path = join(FOLDER, `app-${++count}.${type}`);
  writeFileSync(path, source);
  return path;
}

/** A process of a user; killed with its children when the test ends. */
export class PlainApp {
  readonly process: ChildProcess;
  /** Lines of its standard output. */
  readonly lines: string[] = [];
  stderr = "";
  readonly #ended: Promise<Ended>;
  #has_ended: Ended | undefined;

  private constructor(child: ChildProcess) {
    this.process = child;
    child.stderr?.setEncoding("utf8").on("data", (text: string) => (this.stderr += text));
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on("line", (line) => this.lines.push(line));
    child.stdin?.on("error", () => undefined);
    this.#ended = once(child, "close").then((result) => {
      const [code, signal] = result as [number | null, NodeJS.Signals | null];
      this.#has_ended = { code, signal, stderr: this.stderr };
      return this.#has_ended;
    });
  }

  /** Starts any command in the app's folder. */
  static run(
    t: TestContext,
    user: User,
    command: readonly string[],
    env: Readonly<Record<string, string>> = {},
    stdin: "pipe" | "ignore" = "pipe",
  ): PlainApp {
    make_folder();
    const [program = "", ...args] = [...as_user(user), ...command];
    const child = spawn(program, args, {
      cwd: FOLDER,
      stdio: [stdin, "pipe", "pipe"],
      detached: true, // so that its children end with it
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", ...env },
    });
    const app = new PlainApp(child);
    t.after(() => app.kill_group());
    return app;
  }

  /** Starts an app under the preload. */
  static start(t: TestContext, user: User, source: string, options: PlainOptions = {}): PlainApp {
    const { flags = PRELOAD, type, env, args = [] } = options;
    return PlainApp.run(t, user, [process.execPath, ...flags, write_app(source, type), ...args], env);
  }

  get pid(): number {
    return this.process.pid as number;
  }

  /** Waits for a line that begins so, the `nth` of them, and gives the rest of it. */
  said(word: string, nth = 1): Promise<string> {
    return until(`the app prints "${word}"`, () => {
      const found = this.lines.filter((line) => line === word || line.startsWith(`${word} `))[nth - 1];
      if (found === undefined && this.#has_ended !== undefined)
        throw new Error(`the app ended before it printed "${word}": ${JSON.stringify([this.lines, this.#has_ended])}`);
      return found === undefined ? undefined : { rest: found.slice(word.length + 1) };
    }).then(({ rest }) => rest);
  }

  /** As `said`, where the rest is JSON. */
  // biome-ignore lint/suspicious/noExplicitAny: what an app says is for the test to look at
  async told(word: string, nth = 1): Promise<any> {
    return JSON.parse(await this.said(word, nth));
  }

  tell(word: string): void {
    this.process.stdin?.write(`${word}\n`);
  }

  ended(): Promise<Ended> {
    return this.#ended;
  }

  /** Ends it and its children. */
  kill_group(): void {
    try {
      process.kill(-this.pid, "SIGKILL");
    } catch {
      // They have ended.
    }
  }

  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<Ended> {
    this.process.kill(signal);
    return this.#ended;
  }
}
