/** What runs beside the bench while it measures: the helper, servers, and programs that hand over their samples. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";
import { REPOSITORY } from "../../e2e/box.js";
import { start_helper } from "../../e2e/helper-process.js";
import { type Figure, figure_of } from "../compare.js";
import { CPU, pinned } from "../machine.js";

export interface Context {
  readonly quick: boolean;
}

/** A folder of the box that every user may look into. */
export const FOLDER = "/run/bench";
const ENV = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" };
const ENOUGH = 1_000_000;
/** Limits that no bench comes near: what is measured is the work. */
const LIMITS = { socketsPerUid: ENOUGH, requestsPerSecond: ENOUGH, requestBurst: ENOUGH };

/** The command line of Node for a module of this folder. */
export const node = (name: string, ...args: string[]) => [
  process.execPath,
  join(REPOSITORY, "dist/test/bench/peers", `${name}.js`),
  ...args,
];

/** What has to be ended, the last first. */
export class Ends {
  readonly #ends: (() => unknown)[] = [];

  after(end: () => unknown): void {
    this.#ends.push(end);
  }

  readonly end = async (): Promise<void> => {
    for (const end of this.#ends.splice(0).toReversed()) await end();
  };
}

/** The real daemon, on the processor of all that is measured. */
export async function start_lowport(ends: Ends): Promise<void> {
  await start_helper(ends as unknown as TestContext, { config: { limits: LIMITS }, wrapper: pinned(CPU) });
}

/** Starts what runs until the end. @param ready whether to wait until it says something on stdout */
export async function start_server(ends: Ends, command: readonly string[], ready: boolean): Promise<ChildProcess> {
  const [name = "", ...args] = command;
  const child = spawn(name, args, { cwd: "/", env: ENV, stdio: ["pipe", "pipe", "inherit"] });
  const ended = once(child, "close");
  ends.after(async () => {
    child.kill();
    await ended;
  });
  if (!ready) child.stdout.resume();
  else if ((await Promise.race([once(child.stdout, "data"), ended])).length === 2) throw new Error(`${command.join(" ")} has ended`);
  return child;
}

/** A program that answers each line of its input with one of its output. */
export class Answering {
  readonly #child: ChildProcess;
  #answered: ((line: string | undefined) => void) | undefined;

  constructor(ends: Ends, command: readonly string[]) {
    const [name = "", ...args] = command;
    const child = spawn(name, args, { cwd: "/", env: ENV, stdio: ["pipe", "pipe", "inherit"] });
    createInterface({ input: child.stdout }).on("line", (line) => this.#answered?.(line));
    child.stdin.on("error", () => undefined); // its end is noticed by "close"
    const ended = once(child, "close").then(() => this.#answered?.(undefined));
    ends.after(() => {
      child.kill();
      return ended;
    });
    this.#child = child;
  }

  async ask(question: string): Promise<string> {
    const answer = new Promise<string | undefined>((resolve) => (this.#answered = resolve));
    this.#child.stdin?.write(`${question}\n`);
    const line = await answer;
    if (line === undefined) throw new Error(`${this.#child.spawnargs.join(" ")} has ended`);
    return line;
  }

  /** Asks for this many samples in nanoseconds. @returns them in microseconds */
  async figure(count: number): Promise<Figure> {
    const line = await this.ask(String(count));
    return figure_of(line.trim().split(" ").map((ns) => Number(ns) / 1000));
  }
}
