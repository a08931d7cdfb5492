/**
 * Throw-away machines with a real init: systemd, OpenRC or SysV as process 1 of namespaces of its own, over a copy-on-write
 * view of this machine's root file system, with a network of its own; real-init.sh makes the mounts. All that a test does
 * in there is gone with the machine, and the machine with the process that asked for it, however that ends.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { REPOSITORY, skip_file } from "./box.js";
import { type Outcome, until } from "./helper-process.js";

export type Init = "systemd" | "openrc" | "sysv";

/** Where a machine has the checkout and the node that runs the tests: read-only, and root's alone with all folders above. */
export const CHECKOUT = "/opt/lowport";
export const NODE = "/opt/node/bin/node";

const SCRIPT = join(REPOSITORY, "test/e2e/real-init.sh");
/** Where test/setup.mjs puts the packages of the inits that cannot be installed beside the one that is there. */
const PACKAGES = join(REPOSITORY, "node_modules/.cache/lowport-inits");
const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const TOOLS = ["unshare", "nsenter", "setpriv", "mount", "pivot_root", "ip", "tar", "dpkg-deb"];
/** Held back from what runs in a machine too; the same as in real-init.sh. */
const BOUNDING = /^bounding=(\S+)$/m.exec(readFileSync(SCRIPT, "utf8"))?.[1] as string;
const COVERAGE = "/coverage";
/** Milliseconds for a command in a machine that has no limit of its own. */
const DEADLINE = 60_000;

function find_cgroup2(): string | undefined {
  const mounts = readFileSync("/proc/self/mounts", "utf8").split("\n");
  return mounts.map((line) => line.split(" ")).find(([, , type]) => type === "cgroup2")?.[1];
}

/** Why this machine cannot boot that init; undefined if it can. */
function why_not(init: Init): string | undefined {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return "is not root; sudo npm test";
  const missing = TOOLS.filter((tool) => spawnSync("sh", ["-c", `command -v ${tool}`]).status !== 0);
  if (missing.length > 0) return `${missing.join(", ")} missing; npm test says what to install`;
  if (init === "systemd" && !existsSync("/lib/systemd/systemd")) return "no systemd; apt-get install systemd";
  if (init !== "systemd" && !existsSync(join(PACKAGES, init)))
    return `the packages of ${init} were not fetched; sudo npm test does that`;
  const cgroup = find_cgroup2();
  if (cgroup === undefined) return "no cgroup2 is mounted";
  const { status, stderr } = spawnSync(
    "unshare",
    ["--mount", "--propagation", "private", "sh", SCRIPT, "probe", `${cgroup}/lowport-probe`],
    { encoding: "utf8", env: { PATH } },
  );
  return status === 0 ? undefined : stderr.trim();
}

/** Skips the calling test file, and never comes back, where this machine cannot boot these inits. @param url `import.meta.url` */
export async function need_inits(url: string, ...inits: readonly Init[]): Promise<void> {
  for (const init of inits) {
    const reason = why_not(init);
    if (reason !== undefined) await skip_file(url, `needs to boot a real ${init}: ${reason}`);
  }
}

/** What of the checkout is run or installed, where it has to be copied. */
function find_parts(): string[] {
  const { packages } = JSON.parse(readFileSync(join(REPOSITORY, "package-lock.json"), "utf8")) as {
    packages: Record<string, { dev?: boolean }>;
  };
  const modules = Object.keys(packages).filter((path) => path.startsWith("node_modules/") && packages[path]?.dev !== true);
  return ["package.json", "LICENSE", "dist", "shared", "helper", "client", "test", ...modules].filter((name) =>
    existsSync(join(REPOSITORY, name)),
  );
}
export const PROGRAM_PARTS: readonly string[] = find_parts();

export interface RunOptions {
  /** Name of a user of the machine, whose groups it gets; root if there is none. */
  readonly user?: string;
  /** More variables than PATH, HOME and LANG, or others. */
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
  /** Milliseconds after which it is killed, and its exit code is null. */
  readonly timeout?: number;
}

/** What can end by a hook: a test's context, or node:test itself for a machine that a whole file shares. */
export interface Lifetime {
  after(work: () => Promise<void>): void;
}

/** The processes that are children of this one. */
function children_of(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

export class RealBox {
  readonly init: Init;
  /** Its cgroup, on this machine. */
  readonly cgroup: string;
  /** Process 1, by the number that this machine knows it by. */
  pid = 0;
  readonly #holder: ChildProcess;
  readonly #lines: string[];

  /** Only for `boot`. */
  constructor(init: Init, holder: ChildProcess, lines: string[], cgroup: string) {
    this.init = init;
    this.#holder = holder;
    this.#lines = lines;
    this.cgroup = cgroup;
  }

  /** All that was said while it booted. */
  get log(): string {
    return this.#lines.join("\n");
  }

  /**
   * A file in there, as a path of this machine; also one that only this boot has, such as in /run. A link in the last or a
   * middle component that begins with / would lead out of it: write such paths by `run`.
   */
  path(path: string): string {
    return `/proc/${this.pid}/root${path}`;
  }

  /** The folder with all that differs from this machine's own files; it stays between two boots. */
  get disk(): string {
    return `/proc/${this.#holder.pid}/root/run/upper`;
  }

  /** Whether process 1 lives. */
  get alive(): boolean {
    return existsSync(`/proc/${this.pid}/root/proc/1`);
  }

  /** Starts the init, on the disk as it is, and waits until it has started all that is enabled. */
  async boot(): Promise<void> {
    const before = this.#lines.length;
    this.#holder.stdin?.write("boot\n");
    const said = await until("process 1 begins", () => {
      if (this.#holder.exitCode !== null) throw new Error(`no ${this.init} came up:\n${this.log}`);
      return this.#lines.slice(before).find((line) => line.startsWith("real-init: init "));
    });
    this.pid = Number(said.split(" ")[2]);
    await until(`${this.init} has started all services`, () => {
      if (!existsSync(`/proc/${this.pid}`)) throw new Error(`${this.init} ended:\n${this.log}`);
      return existsSync(this.path("/run/box-ready"));
    }).catch((error: Error) => {
      throw new Error(`${error.message}\n${this.log}`, { cause: error });
    });
    if (this.init === "systemd") await this.run(["systemctl", "is-system-running", "--wait"]);
  }

  /** Ends everything in there at once, as a power failure does, and boots again from the same disk. */
  reboot(): Promise<void> {
    return this.boot();
  }

  /** Starts a command in there, by its name and arguments. */
  spawn(command: readonly string[], { user, env = {} }: Omit<RunOptions, "input" | "timeout"> = {}): ChildProcess {
    const become = user === undefined ? [] : [`--reuid=${user}`, `--regid=${user}`, "--init-groups"];
    const coverage = existsSync(this.path(COVERAGE)) ? { NODE_V8_COVERAGE: COVERAGE } : {};
    const environment = Object.entries({ PATH, HOME: user === undefined ? "/root" : "/", LANG: "C.UTF-8", ...coverage, ...env });
    // It is not in the process namespace itself, only its child is: an init that goes down stops all that it sees, and
    // what waits for a child that is stopped would hold the namespace for ever.
    return spawn(
      "sh",
      [
        ...["-c", 'echo 0 >"$0/visitors/cgroup.procs" && exec "$@"', this.cgroup],
        ...["setpriv", "--pdeathsig", "KILL"],
        ...["nsenter", "--no-fork", "-t", String(this.pid)],
        ...["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--wdns=/", "--"],
        ...["setpriv", `--bounding-set=${BOUNDING}`, "sh", "-c", '"$@"; exit $?', "sh"],
        ...(become.length > 0 ? ["setpriv", ...become] : []),
        ...["env", "-i", ...environment.map(([name, value]) => `${name}=${value}`), ...command],
      ],
      { cwd: "/", env: { PATH } },
    );
  }

  /** Runs a command in there to its end. */
  async run(command: readonly string[], { input = "", timeout = DEADLINE, ...options }: RunOptions = {}): Promise<Outcome> {
    const child = this.spawn(command, options);
    let stdout = "";
    let stderr = "";
    child.stdout?.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr?.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    child.stdin?.on("error", () => undefined); // it need not read
    child.stdin?.end(input);
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      const inside = children_of(child.pid as number); // their parent reaps them, and ends
      for (const pid of inside.length > 0 ? inside : [child.pid as number]) process.kill(pid, "SIGKILL");
    }, timeout);
    const [code] = (await once(child, "close")) as [number | null];
    clearTimeout(timer);
    return { code: late ? null : code, stdout, stderr };
  }

  /** Runs a command that must end well, and gives what it said. */
  async do(command: readonly string[], options: RunOptions = {}): Promise<string> {
    const { code, stdout, stderr } = await this.run(command, options);
    if (code !== 0) throw new Error(`${command.join(" ")} ended with ${code}: ${stderr}${stdout}`);
    return stdout;
  }

  /** Ends all of it and waits until nothing is left. */
  async shutdown(): Promise<void> {
    if (this.#holder.exitCode !== null || this.#holder.signalCode !== null) return;
    this.#bring_coverage();
    const ended = once(this.#holder, "close");
    this.#holder.stdin?.end();
    await ended;
  }

  /** What ran from the checkout or from an installed copy counts for the files here. */
  #bring_coverage(): void {
    const folder = process.env["NODE_V8_COVERAGE"];
    if (folder === undefined || !existsSync(this.path(COVERAGE))) return;
    for (const name of readdirSync(this.path(COVERAGE))) {
      const text = readFileSync(join(this.path(COVERAGE), name), "utf8");
      const here = text.replaceAll(/file:\/\/\/(opt\/lowport|usr\/local\/lib\/lowport\/[^/"]+)\//g, `file://${REPOSITORY}/`);
      writeFileSync(join(folder, `${this.#holder.pid}-${name}`), here);
    }
  }
}

/** Boots a machine and waits until it is up. @param lifetime when it ends, the machine does */
export async function boot(lifetime: Lifetime, { init, size = "2g" }: { init: Init; size?: string }): Promise<RealBox> {
  const packages = init === "systemd" ? "" : join(PACKAGES, init);
  const cgroup = `${find_cgroup2()}/lowport-box`;
  const args = [SCRIPT, "hold", init, cgroup, size, packages, REPOSITORY, process.execPath, ...PROGRAM_PARTS];
  // A session of its own, so that Ctrl-C leaves it time to clean up; it ends by the end of its stdin.
  const holder = spawn("unshare", ["--mount", "--propagation", "private", "sh", ...args], {
    detached: true,
    cwd: "/",
    env: { PATH },
  });
  const lines: string[] = [];
  for (const stream of [holder.stdout, holder.stderr]) createInterface({ input: stream }).on("line", (line) => lines.push(line));
  const held = await until("the machine's disk is mounted", () => {
    if (holder.exitCode !== null) throw new Error(`no disk for ${init}:\n${lines.join("\n")}`);
    return lines.find((line) => line.startsWith("real-init: held "));
  });
  const box = new RealBox(init, holder, lines, held.split(" ")[2] as string);
  lifetime.after(() => box.shutdown());
  await box.boot();
  if (process.env["NODE_V8_COVERAGE"] !== undefined) await box.do(["mkdir", "-m", "1777", COVERAGE]);
  return box;
}
