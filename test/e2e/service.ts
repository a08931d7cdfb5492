/**
 * lowport as a service of a machine with a real init: installing it, what it has changed on the disk, what its process may do,
 * an app of www-data that it serves, and clients that keep that app busy.
 */
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync, type Stats } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";
import type { LeaseEntry } from "../../client/index.js";
import { type Outcome, until } from "./helper-process.js";
import { CHECKOUT, NODE, PROGRAM_PARTS, type RealBox, type RunOptions } from "./real-init.js";

export const LIBRARY = "/usr/local/lib/lowport";
export const PID_FILE = "/run/lowport/lowport.pid";
export const RULE = "www-data:tcp:80,443";
const NET_BIND_SERVICE = 1 << 10;
/** What the scripts of OpenRC and SysV need besides, to give up root: chown, kill, setgid, setuid, setpcap. */
export const STARTING = (1 << 0) | (1 << 5) | (1 << 6) | (1 << 7) | (1 << 8);

/** Runs lowportd from a checkout in the machine. */
export function lowportd(box: RealBox, args: readonly string[], options: RunOptions = {}, from = CHECKOUT): Promise<Outcome> {
  return box.run([NODE, `${from}/dist/helper/main.cjs`, ...args], options);
}

/** Installs with the rule for www-data, and lets it ask. */
export async function install(box: RealBox, ...args: string[]): Promise<Outcome> {
  const outcome = await lowportd(box, ["install", "--allow", RULE, ...args]);
  assert.equal(outcome.code, 0, outcome.stderr + outcome.stdout);
  await box.do(["usermod", "-aG", "lowport", "www-data"]);
  return outcome;
}

/** Copies the checkout within the machine, so that it can be made another one. */
export async function copy_checkout(box: RealBox, to: string): Promise<void> {
  const parts = PROGRAM_PARTS.map((name) => `./${name}`);
  await box.do([
    "sh",
    "-ec",
    'to=$1; shift; mkdir -p "$to"; cd /opt/lowport; tar -c "$@" | tar -x -p -C "$to"',
    "sh",
    to,
    ...parts,
  ]);
}

function stats_of(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

/** What a path is, by which it can be told from another: kind, owner, mode, and what is in it. */
function describe(path: string): string {
  const stats = stats_of(path);
  // An overlay has a device 0:0 where a file of the layer below was removed.
  if (stats === undefined || (stats.isCharacterDevice() && stats.rdev === 0)) return "nothing";
  const who = `${(stats.mode & 0o177777).toString(8)} ${stats.uid}:${stats.gid}`;
  if (stats.isSymbolicLink()) return `${who} -> ${readlinkSync(path)}`;
  return stats.isFile() ? `${who} ${createHash("sha256").update(readFileSync(path)).digest("hex")}` : who;
}

/** Written by whoever runs; no install has to do with it. */
const RESTLESS =
  /^\/(coverage|var\/lib\/systemd|var\/lib\/dbus|var\/cache|var\/log\/(journal|wtmp|btmp|lastlog)|etc\/\.pwd\.lock|etc\/machine-id|etc\/\w+-$|etc\/sub[ug]id|etc\/init\.d\/\.depend\.|var\/lib\/logrotate|var\/tmp\/systemd-private-)/;

/** All of the disk that is not as on the machine that runs the tests, each with what it is instead. */
export function list_disk(box: RealBox, ...besides: string[]): Map<string, string> {
  const found = new Map<string, string>();
  for (const entry of readdirSync(box.disk, { recursive: true })) {
    const path = `/${entry}`;
    if (RESTLESS.test(path) || besides.some((other) => path === other || path.startsWith(`${other}/`))) continue;
    const here = describe(join(box.disk, path));
    if (here !== describe(path)) found.set(path, here);
  }
  return found;
}

/** Proves that two lists of a disk are the same; else says in what they differ. */
export function same_disk(now: ReadonlyMap<string, string>, before: ReadonlyMap<string, string>): void {
  const differences = [...new Set([...now.keys(), ...before.keys()])]
    .toSorted((a, b) => a.localeCompare(b))
    .flatMap((path) => {
      const [is, was] = [now.get(path) ?? "as on the disk below", before.get(path) ?? "as on the disk below"];
      return is === was ? [] : [`${path}: was ${was}, is ${is}`];
    });
  assert.deepEqual(differences, []);
}

/** What of lowport is in the folders that a boot makes anew. */
export function list_volatile(box: RealBox): string[] {
  return ["/run", "/tmp", "/dev/shm"].flatMap((folder) =>
    readdirSync(box.path(folder), { recursive: true })
      .map((name) => join(folder, String(name)))
      .filter((path) => path.includes("lowport") && !path.startsWith("/run/systemd/")),
  );
}

/** The helper's process id in the machine. */
export function helper_pid(box: RealBox): number {
  return Number(readFileSync(box.path(PID_FILE), "utf8"));
}

/**
 * Proves what no thread of the helper has: root's ids, a right but the one, a way to get more.
 * @param bounding the rights that its start needs and that its other threads still have in their bounding set
 */
export async function is_hardened(box: RealBox, bounding = 0): Promise<void> {
  const pid = helper_pid(box);
  const uid = (await box.do(["id", "-u", "lowport"])).trim();
  const tasks = readdirSync(box.path(`/proc/${pid}/task`));
  assert.ok(tasks.length > 1);
  for (const task of tasks) {
    const text = readFileSync(box.path(`/proc/${pid}/task/${task}/status`), "utf8");
    const field = (name: string) => new RegExp(`^${name}:\\s+(.*)$`, "m").exec(text)?.[1] ?? "";
    assert.equal(field("Uid"), Array.from({ length: 4 }).fill(uid).join("\t"));
    for (const name of ["CapPrm", "CapEff", "CapAmb", "CapInh"])
      assert.ok([0, NET_BIND_SERVICE].includes(Number.parseInt(field(name), 16)), `${name} ${field(name)}`);
    const more = task === String(pid) ? 0 : bounding;
    assert.equal(Number.parseInt(field("CapBnd"), 16) & ~(NET_BIND_SERVICE | more), 0, `CapBnd ${field("CapBnd")}`);
    assert.deepEqual([field("NoNewPrivs"), field("Seccomp")], ["1", "2"]);
  }
  assert.match(readlinkSync(box.path(`/proc/${pid}/exe`)), /^\/usr\/local\/lib\/lowport\/[^/]+\/node$/);
}

/** Proves that no user but root can change what root runs or reads here. */
export async function is_roots_alone(box: RealBox, ...more: string[]): Promise<void> {
  const paths = [
    LIBRARY,
    "/etc/lowport",
    "/etc/logrotate.d/lowport",
    "/usr/local/bin/lowport",
    "/usr/local/sbin/lowportd",
    ...more,
  ];
  assert.equal(await box.do(["find", ...paths, "(", "!", "-user", "0", "-o", "-perm", "/022", ")", "!", "-type", "l"]), "");
  for (const path of paths) await box.do(["test", "-e", path]);
}

export interface Status {
  readonly pid: number;
  readonly version: string;
  readonly policyLoadedAt: string;
  readonly auditSeq: number;
}

/** The `lowport` command that was installed. */
export async function lowport(box: RealBox, ...args: string[]): Promise<Outcome> {
  return box.run(["/usr/local/bin/lowport", ...args]);
}

export async function status(box: RealBox): Promise<Status> {
  return JSON.parse(await box.do(["/usr/local/bin/lowport", "status", "--json"])) as Status;
}

export async function leases(box: RealBox): Promise<LeaseEntry[]> {
  return (JSON.parse(await box.do(["/usr/local/bin/lowport", "list", "--json"])) as { leases: LeaseEntry[] }).leases;
}

/** Waits until another helper than this one answers. */
export function another_helper(box: RealBox, before: number): Promise<number> {
  return until("another helper serves", async () => {
    const { code, stdout } = await lowport(box, "status", "--json");
    const pid = code === 0 ? (JSON.parse(stdout) as Status).pid : before;
    return pid !== before && pid;
  });
}

export async function verify_audit(box: RealBox, ...files: string[]): Promise<void> {
  const { code, stdout, stderr } = await lowport(box, "audit", "verify", ...files, "/var/log/lowport/audit.log");
  assert.equal(code, 0, stdout + stderr);
}

/** A program that is steered by its stdin and says one JSON line after the other. */
export class Program {
  readonly process: ChildProcess;
  readonly lines: Record<string, unknown>[] = [];
  #errors = "";
  #ended = false;

  constructor(child: ChildProcess) {
    this.process = child;
    child.stderr?.setEncoding("utf8").on("data", (text: string) => (this.#errors += text));
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on("line", (line) =>
      this.lines.push(JSON.parse(line) as Record<string, unknown>),
    );
    child.stdin?.on("error", () => undefined);
    child.on("close", () => (this.#ended = true));
  }

  static start(box: RealBox, user: string, text: string, ...args: string[]): Program {
    return new Program(box.spawn([NODE, "--input-type=module", "-e", text, "--", ...args], { user }));
  }

  /** Waits for a line that has this member. */
  said(member: string, nth = 1): Promise<Record<string, unknown>> {
    return until(`the program says "${member}"`, () => {
      const found = this.lines.filter((line) => member in line)[nth - 1];
      if (found === undefined && this.#ended) throw new Error(`it ended before it said "${member}": ${this.#errors}`);
      return found;
    });
  }

  /** Ends its stdin, which ends it, and waits for that. */
  async stop(): Promise<void> {
    if (this.#ended) return;
    this.process.stdin?.end();
    await until("the program ends", () => this.#ended);
    assert.equal(this.#errors, "");
  }
}

const SYSLOG = `import json, os, socket
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind("/dev/log")
os.chmod("/dev/log", 0o666)
print(json.dumps({"listening": True}), flush=True)
while True:
    print(json.dumps({"message": log.recv(65536).decode()}), flush=True)`;

/** A syslogd for a machine that has none. @returns what gives all that it has been told */
export async function start_syslog(box: RealBox): Promise<() => string> {
  const syslog = new Program(box.spawn(["python3", "-IS", "-c", SYSLOG]));
  await syslog.said("listening");
  return () => syslog.lines.map(({ message }) => message).join("\n");
}

const APP = `import http from "node:http";
import { listen } from "${CHECKOUT}/dist/client/index.js";
const [port, hold, label] = process.argv.slice(1);
const server = http.createServer((request, response) => response.end("hello from uid " + process.getuid()));
const { via, lease } = await listen(server, { port: Number(port), hold: Number(hold), label });
console.log(JSON.stringify({ serving: via, lease: lease?.lease, pid: process.pid }));
process.stdin.resume().on("end", () => process.exit());`;

/** An app of www-data that has a port, and serves until the test ends. */
export async function start_app(t: TestContext, box: RealBox, { port = 80, hold = 0, label = "shop" } = {}): Promise<Program> {
  const app = Program.start(box, "www-data", APP, String(port), String(hold), label);
  t.after(() => app.stop());
  const { serving } = await app.said("serving");
  assert.equal(serving, "helper");
  return app;
}

const CLIENTS = `import http from "node:http";
const [port, clients] = process.argv.slice(1).map(Number);
const seen = {};
let running = true;
let told = false;
const get = () => new Promise((resolve) => {
  http.get({ host: "127.0.0.1", port, agent: false }, (response) => {
    let body = "";
    response.setEncoding("utf8").on("data", (text) => (body += text)).on("end", () => resolve(body)).on("error", (error) => resolve(error.code));
  }).on("error", (error) => resolve(error.code));
});
const client = async () => {
  while (running) {
    const body = await get();
    seen[body] = (seen[body] ?? 0) + 1;
    if (!told) console.log(JSON.stringify({ busy: told = true }));
    if (running && seen[body] % 50 === 0) console.log(JSON.stringify({ turn: seen[body] }));
  }
};
process.stdin.resume().on("end", () => (running = false));
await Promise.all(Array.from({ length: clients }, client));
console.log(JSON.stringify({ seen }));`;

/** Clients that ask an app over and over, on a connection for each time. */
export class Load {
  readonly #program: Program;

  private constructor(program: Program) {
    this.#program = program;
  }

  static async start(box: RealBox, port = 80, clients = 8): Promise<Load> {
    const program = Program.start(box, "mallory", CLIENTS, String(port), String(clients));
    await program.said("busy");
    return new Load(program);
  }

  /** Waits until the clients have been answered some more. */
  async goes_on(): Promise<void> {
    const turns = () => this.#program.lines.filter((line) => "turn" in line).length;
    const before = turns();
    await until("the clients are answered", () => turns() > before + 1);
  }

  /** Ends it; gives how often each body, or code of an error, came. */
  async stop(): Promise<Record<string, number>> {
    await this.#program.stop();
    return (await this.#program.said("seen"))["seen"] as Record<string, number>;
  }
}

/** What the app on a port answers to a client of the machine. */
export function get(box: RealBox, port = 80): Promise<string> {
  return box.do([
    NODE,
    "-e",
    `fetch("http://127.0.0.1:${port}/").then((response) => response.text()).then((text) => process.stdout.write(text))`,
  ]);
}

/** Whether a path is there, in the machine; links are not followed. */
export const is_there = (box: RealBox, path: string) => existsSync(box.path(path)) || stats_of(box.path(path)) !== undefined;

/** Where `with_newer` puts another version of the program. */
export const NEWER = "/srv/lib/node_modules/lowport";

/** Puts another version of the program there. @returns what removes an installation, and proves that nothing else is left */
export async function with_newer(box: RealBox): Promise<() => Promise<void>> {
  await copy_checkout(box, NEWER);
  await box.do([
    "sh",
    "-ec",
    `sed -i '1a # changed' ${NEWER}/helper/service/lowport.*; echo '// changed' >>${NEWER}/dist/client/cli.js`,
  ]);
  const clean = list_disk(box, "/srv");
  return async () => {
    const { code, stderr, stdout } = await lowportd(box, ["uninstall", "--purge"]);
    assert.equal(code, 0, stderr + stdout);
    same_disk(list_disk(box, "/srv"), clean);
    assert.deepEqual(list_volatile(box), []);
  };
}
