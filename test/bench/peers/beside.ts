/** What runs beside the bench while it measures: servers, and programs that hand over their samples. */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { dirname, join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { REPOSITORY } from "../../e2e/box.js";
import { type Figure, figure_of } from "../compare.js";

export interface Context {
  readonly quick: boolean;
}

/** A folder of the box that every user may look into. */
export const FOLDER = "/run/bench";
/** What programs are started with: nothing of the caller's (NODE_EXTRA_CA_CERTS alone costs Node 20 its start again). */
export const ENV = { PATH: `${dirname(process.execPath)}:/usr/sbin:/usr/bin:/sbin:/bin` };

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

/** A program that runs until the end. What it says on stderr is kept, for the error if it ends before. */
class Beside {
  readonly child: ChildProcessWithoutNullStreams;
  readonly ended: Promise<Error>;

  constructor(ends: Ends, [name = "", ...args]: readonly string[]) {
    const child = spawn(name, args, { cwd: "/", env: ENV });
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    child.stdin.on("error", () => undefined); // `ended` says what has happened
    const closed = new Promise((resolve) => child.once("close", resolve).once("error", resolve));
    this.ended = closed.then((how) => new Error(`${child.spawnargs.join(" ")} has ended (${how}): ${stderr}`));
    this.child = child;
    ends.after(() => {
      child.kill();
      return closed;
    });
  }
}

/**
 * Starts what serves until the end. @param ready whether to wait until it says something on stdout
 * @returns its process id
 */
export async function start_server(ends: Ends, command: readonly string[], ready: boolean): Promise<number> {
  const { child, ended } = new Beside(ends, command);
  child.stdout.resume();
  const first = ready ? await Promise.race([once(child.stdout, "data"), ended]) : undefined;
  if (first instanceof Error) throw first;
  return child.pid as number;
}

/** A program that answers each line of its input with one of its output. */
export class Answering {
  readonly #beside: Beside;
  #answered: (line: string) => void = () => undefined;

  constructor(ends: Ends, command: readonly string[]) {
    this.#beside = new Beside(ends, command);
    createInterface({ input: this.#beside.child.stdout }).on("line", (line) => this.#answered(line));
  }

  async ask(question: string): Promise<string> {
    const answer = new Promise<string>((resolve) => (this.#answered = resolve));
    this.#beside.child.stdin.write(`${question}\n`);
    const line = await Promise.race([answer, this.#beside.ended]);
    if (line instanceof Error) throw line;
    return line;
  }

  /** Asks for this many samples in nanoseconds. @returns them in microseconds */
  async figure(count: number): Promise<Figure> {
    return figure_of(
      (await this.ask(String(count)))
        .trim()
        .split(" ")
        .map((ns) => Number(ns) / 1000),
    );
  }
}
