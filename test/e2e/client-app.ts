/**
 * Apps that use the client library, as processes of unprivileged users. A test writes the app as a function, which is
 * passed as text: it can use nothing but its argument. An app that crashes, or warns, is seen by `ended`.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import http from "node:http";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";
import { connect, type LeaseEntry, type LowportError } from "../../client/index.js";
import { REPOSITORY, type User } from "./box.js";
import type { Program } from "./client-app-main.js";
import { until } from "./helper-process.js";

const MAIN = join(REPOSITORY, "dist/test/e2e/client-app-main.js");

// biome-ignore lint/suspicious/noExplicitAny: what an app says is for the test to look at
type Said = any;

interface Event {
  readonly event: string;
  readonly data: Said;
  readonly pid: number;
}

export interface AppOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** A command line that starts the app, such as `prlimit --nofile=64`. It must keep the process id. */
  readonly wrapper?: readonly string[];
  /** Descriptors of this process that the app inherits, from 3 on. */
  readonly inherit?: readonly number[];
}

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
}

/** A command line that runs another one as this user. */
export function as_user({ uid, gid, groups }: User): string[] {
  const supplementary = groups.length > 0 ? [`--groups=${groups.join(",")}`] : ["--clear-groups"];
  return ["setpriv", `--reuid=${uid}`, `--regid=${gid}`, ...supplementary];
}

/** A process of a user that runs a program. It is killed when the test ends. */
export class App {
  readonly process: ChildProcess;
  readonly events: Event[] = [];
  #stderr = "";
  readonly #ended: Promise<Ended>;
  #has_ended: Ended | undefined;
  /** The test waits for it to say "failed", or has; else that is the end of the test. */
  #may_fail = false;

  private constructor(child: ChildProcess) {
    this.process = child;
    child.stderr?.setEncoding("utf8").on("data", (text: string) => (this.#stderr += text));
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on("line", (line) =>
      this.events.push(JSON.parse(line) as Event),
    );
    child.stdin?.on("error", () => undefined);
    this.#ended = once(child, "close").then((result) => {
      const [code, signal] = result as [number | null, NodeJS.Signals | null];
      this.#has_ended = { code, signal, stderr: this.#stderr };
      return this.#has_ended;
    });
  }

  /** @param arg anything that JSON can say; the program finds it in its argument */
  static start<A = null>(t: TestContext, user: User, program: Program<A>, arg?: A, options: AppOptions = {}): App {
    const command = [...as_user(user), ...(options.wrapper ?? []), process.execPath, MAIN];
    const child = spawn(command[0] as string, [...command.slice(1), program.toString(), JSON.stringify(arg ?? null)], {
      cwd: "/",
      stdio: ["pipe", "pipe", "pipe", ...(options.inherit ?? [])],
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", ...options.env },
    });
    t.after(() => child.kill("SIGKILL"));
    return new App(child);
  }

  get pid(): number {
    return this.process.pid as number;
  }

  /** Waits until the app says this, for the `nth` time, and gives what it says about it. */
  said(event: string, nth = 1): Promise<Said> {
    if (event === "failed") this.#may_fail = true;
    return until(`the app says "${event}"`, () => {
      const found = this.events.filter((one) => one.event === event)[nth - 1];
      const failed = this.events.find((one) => one.event === "failed");
      if (found === undefined && failed !== undefined && !this.#may_fail)
        throw new Error(`the app failed before it said "${event}": ${JSON.stringify(failed.data)}`);
      if (found === undefined && this.#has_ended !== undefined)
        throw new Error(`the app ended before it said "${event}": ${JSON.stringify(this.#has_ended)}`);
      return found;
    }).then(({ data }) => data);
  }

  tell(word: string): void {
    this.process.stdin?.write(`${word}\n`);
  }

  /** Waits until it has ended. */
  ended(): Promise<Ended> {
    return this.#ended;
  }

  /** Waits until it has ended by itself, with nothing wrong and nothing to complain about. */
  async ends_well(): Promise<void> {
    assert.deepEqual(await this.#ended, { code: 0, signal: null, stderr: "" });
  }

  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<Ended> {
    this.process.kill(signal);
    return this.#ended;
  }

  fd_count(): number {
    return readdirSync(`/proc/${this.pid}/fd`).length;
  }
}

/** All leases, as root sees them; waits where the helper says that root asks too often. */
export function all_leases(): Promise<LeaseEntry[]> {
  return until("the leases are told", async () => {
    try {
      const admin = await connect();
      return await admin.list().finally(() => admin.close());
    } catch (error) {
      if ((error as LowportError).code === "EAGAIN") return undefined;
      throw error;
    }
  });
}

export async function no_leases(): Promise<void> {
  let leases: LeaseEntry[] = [];
  await until("no lease is left", async () => {
    leases = await all_leases();
    return leases.length === 0;
  }).catch((error: Error) => assert.fail(`${error.message}: ${JSON.stringify(leases)}`));
}

/** Stops a process for a while, and waits until it does stand still. */
export async function freeze({ pid }: { readonly pid: number }): Promise<void> {
  process.kill(pid, "SIGSTOP");
  await until("it stands still", () => /^State:\s+T/m.test(readFileSync(`/proc/${pid}/status`, "utf8")));
}

/** Body of a GET over a connection of its own. @throws what the connection gives */
export function get(port: number, host = "127.0.0.1"): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = http.get({ host, port, agent: false }, (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (text: string) => (body += text));
      response.on("end", () => resolve(body));
      response.on("error", reject);
    });
    request.on("error", reject);
  });
}
