/**
 * The doctor's checks of what install put there: the program against its manifest, whether it runs with its own Node, posix and
 * addon, and the files outside of it against what was recorded. Nothing is run before it is known to be root's alone.
 */
import { type SpawnSyncOptionsWithStringEncoding, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  realpathSync,
} from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { distrust } from "../trusted-path.js";
import { octal, ok, type Result, unknown, unless_wrong, wrong } from "./findings.js";
import { install_command } from "./newer.js";
import type { InstallRecord } from "./record.js";
import { look_at } from "./standing.js";

const INSTALL = "sudo lowportd install";
const CHUNK_BYTES = 1 << 20;
/** Milliseconds that a program may take which only says what it can load. */
const LIMIT_MS = 20_000;

/** The SHA-256 of a regular file's bytes. */
function hash_file(path: string): string {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const hash = createHash("sha256");
    const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
    if (fstatSync(fd).isFile())
      for (let got = readSync(fd, chunk); got > 0; got = readSync(fd, chunk)) hash.update(chunk.subarray(0, got));
    return hash.digest("hex");
  } finally {
    closeSync(fd);
  }
}

/** What a file should be. */
interface Expected {
  readonly path: string;
  /** In octal: "0644". */
  readonly mode: string;
  readonly uid: number;
  readonly gid?: number;
  readonly sha256: string;
}

/** How a file differs from what it should be; undefined if it does not. */
function difference({ path, mode, uid, gid = 0, sha256 }: Expected): string | undefined {
  const stats = look_at(path);
  if (stats === undefined) return `${path} is missing`;
  if (!stats.isFile()) return `${path} is no regular file any more`;
  if (stats.uid !== uid || stats.gid !== gid) return `${path} belongs to ${stats.uid}:${stats.gid} and not to ${uid}:${gid}`;
  if (octal(stats.mode) !== mode) return `${path} has mode ${octal(stats.mode)} and not ${mode}`;
  return hash_file(path) === sha256 ? undefined : `${path} has another content than when it was installed`;
}

/** The program, if it is not installed as a service: at least it must be root's alone. */
export function check_loose_program(files: readonly string[]): readonly Result[] {
  const found = files.flatMap((path) => distrust(realpathSync(path)) ?? []);
  const cure = `install it where only root can write: ${INSTALL}`;
  return unless_wrong(
    found.map((why) => wrong(`${why}; whoever may write there can change what root runs`, cure)),
    "is not installed as a service, and is root's alone",
  );
}

/** A release against its manifest. @param owner who owns every file; another than root in tests */
export function check_release(folder: string, owner = { uid: 0, gid: 0 }): readonly Result[] {
  const why = owner.uid === 0 ? distrust(folder) : undefined;
  if (why !== undefined) return [wrong(why, `do so, and ${INSTALL}`)];
  const { files } = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8")) as { files: Omit<Expected, "uid">[] };
  const known = new Set(["manifest.json", ...files.map(({ path }) => path)]);
  const differences = files.flatMap((file) => difference({ ...file, ...owner, path: join(folder, file.path) }) ?? []);
  for (const entry of readdirSync(folder, { recursive: true }).map(String)) {
    const path = join(folder, entry);
    const stats = look_at(path);
    if (stats?.isDirectory() !== true) {
      if (!known.has(entry)) differences.push(`${path} was not installed`);
    } else if (stats.uid !== owner.uid || (stats.mode & 0o022) !== 0)
      differences.push(`${path} belongs to uid ${stats.uid} with mode ${octal(stats.mode)}: others than root can write there`);
  }
  return unless_wrong(
    differences.map((text) => wrong(text, `${INSTALL} from a lowport that you trust puts it right`)),
    `${files.length} files in ${folder} are as they were installed`,
  );
}

/** How a Node is run: nothing of the caller's environment reaches it. */
const AS_NODE: SpawnSyncOptionsWithStringEncoding = {
  cwd: "/",
  encoding: "utf8",
  env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
  killSignal: "SIGKILL",
  stdio: ["ignore", "pipe", "ignore"],
};

/** Tells as JSON what can be loaded ("ok"), and of what cannot why. */
const LOAD = `const [posix, addon] = process.argv.slice(1);
const attempt = async (load) => { try { await load(); return "ok"; } catch (error) { return String(error?.message ?? error).replace(/\\s+/g, " "); } };
const found = {
  version: process.version,
  posix: await attempt(async () => (await import(posix)).load_posix()),
  addon: await attempt(async () => (await import(addon)).native()),
};
console.log(JSON.stringify(found));`;

/** What the helper cannot do without. */
export interface Loads {
  readonly node: Result;
  readonly posix: Result;
  readonly addon: Result;
}

/** A Node and its version, as in process.version. */
export interface NodeVersion {
  readonly path: string;
  readonly version: string;
}

const NODE = "node";
/** Where the system's Node is. */
const SYSTEM_NODES = ["/usr/local/bin", "/usr/bin"].map((folder) => join(folder, NODE));

/** The Node that runs this, and those of the system, if they are root's alone. */
function system_nodes(): NodeVersion[] {
  const own = { path: process.execPath, version: process.version };
  const found = SYSTEM_NODES.flatMap((path) => {
    try {
      if (distrust(realpathSync(path)) !== undefined) return [];
    } catch {
      return [];
    }
    const { status, stdout } = spawnSync(path, ["--version"], { ...AS_NODE, timeout: LIMIT_MS });
    return status === 0 ? [{ path, version: stdout.trim() }] : [];
  });
  return [own, ...found];
}

const numbers_of = (version: string) => version.replace(/^v/, "").split(".").map(Number);

/** Below 0 if `a` is older than `b`. */
function compare_versions(a: string, b: string): number {
  const [left, right] = [numbers_of(a), numbers_of(b)];
  return left.map((number, i) => number - (right[i] ?? 0)).find((step) => step !== 0) ?? 0;
}

/** The helper has a Node of its own, so an upgrade of the system's does not reach it. */
function compare_node(path: string, version: string, others: readonly NodeVersion[]): Result {
  const newest = others
    .filter((other) => compare_versions(version, other.version) < 0)
    .toSorted((a, b) => compare_versions(b.version, a.version))[0];
  if (newest === undefined) return ok(`${path} is Node ${version}`);
  return unknown(
    `${path} is Node ${version}, and ${newest.path} is ${newest.version}: whether that mends a hole is not known here`,
    `to have the helper run on it, install lowport by it (npm install --global), then ${install_command(newest.path, '"$(npm root --global)/lowport"')}`,
  );
}

/** Whether the Node runs, and loads what the helper needs: a Node of another major version does not load posix. */
export function check_loads(node: string, program: string, others = system_nodes()): Loads {
  const modules = ["dist/helper/posix.js", "dist/shared/native.js"].map((file) => pathToFileURL(join(program, file)).href);
  const { status, stdout, error, signal } = spawnSync(node, ["--input-type=module", "-e", LOAD, ...modules], {
    ...AS_NODE,
    timeout: LIMIT_MS,
  });
  if (error !== undefined || status !== 0) {
    const why = error?.message ?? (signal === null ? `exit ${status}` : signal);
    const untried = unknown("not tried, because Node does not run");
    return { node: wrong(`${node} does not run: ${why}`, INSTALL), posix: untried, addon: untried };
  }
  const said = JSON.parse(stdout) as { version: string; posix: string; addon: string };
  const judge = (text: string) => (text === "ok" ? ok("can be loaded") : wrong(text, `install again: ${INSTALL}`));
  return { node: compare_node(node, said.version, others), posix: judge(said.posix), addon: judge(said.addon) };
}

/** Files and links outside of the release against what install has recorded. */
export function check_drift({ files, links }: Pick<InstallRecord, "files" | "links">): readonly Result[] {
  const cure = `${INSTALL} writes it again; changes of yours belong where the file's first lines say`;
  const differences = files.flatMap((file) => difference(file) ?? []);
  for (const { path, to } of links) {
    const stats = look_at(path);
    const leads = stats?.isSymbolicLink() === true ? readlinkSync(path) : undefined;
    if (leads !== to)
      differences.push(`${path} ${leads === undefined ? "is no link any more" : `leads to ${leads}`}, and not to ${to}`);
  }
  return unless_wrong(
    differences.map((text) => wrong(text, cure)),
    `${files.length} files and ${links.length} links are as install wrote them`,
  );
}
