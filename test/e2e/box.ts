/**
 * A box for the end-to-end tests: namespaces of their own with /etc, /run, /var/log, /var/lib, network, processes and users
 * of their own, so that the real daemon runs as real root on real low ports and nothing of it touches this machine.
 * `await enter_box(import.meta.url)` at the top of a test file runs the file again inside and never comes back outside.
 */
import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  constants,
  cpSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

/** The checkout; inside the box it can be read by every user and written by none. */
export const REPOSITORY = fileURLToPath(new URL("../../../", import.meta.url)).replace(/\/$/, "");

export interface User {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
}

/** Who may connect to the control socket. */
export const LOWPORT_GID = 990;
export const WEB_GID = 3000;
const user = (name: string, uid: number, ...groups: number[]): User => ({ name, uid, gid: uid, groups });
/**
 * The helper's user has another uid in each box: the kernel counts descriptors that are on their way by uid, over all
 * boxes that run at the same time (unix(7), ETOOMANYREFS).
 */
const SERVICE_UID = 100_000 + (Number(process.env["LOWPORT_BOX"] ?? 0) % 100_000);
/** The users of the box; `mallory` may not even connect. */
export const USERS = {
  root: user("root", 0),
  lowport: { name: "lowport", uid: SERVICE_UID, gid: LOWPORT_GID, groups: [] },
  alice: user("alice", 2001, LOWPORT_GID),
  bob: user("bob", 2002, LOWPORT_GID),
  carol: user("carol", 2003, LOWPORT_GID, WEB_GID),
  olaf: user("olaf", 2004, 4, LOWPORT_GID), // of adm, and so an operator
  mallory: user("mallory", 2005),
} as const;

const UNSHARE = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"];

function run(command: string, ...args: string[]): void {
  const { status, stderr, error } = spawnSync(command, args, { encoding: "utf8", env: { PATH: process.env["PATH"] } });
  if (error !== undefined || status !== 0) throw new Error(`box: ${command} ${args.join(" ")}: ${error?.message ?? stderr}`);
}

const open_to_others = (path: string) => (statSync(path).mode & constants.S_IXOTH) !== 0;
const ancestors = (path: string): string[] => (path === "/" ? [] : [...ancestors(dirname(path)), path]);

/** Makes paths reachable for every user although a folder above them is closed, at the path where they are. */
function open_the_way(paths: readonly string[]): void {
  const hidden = paths.flatMap((path) => {
    const closed = ancestors(dirname(path)).find((folder) => !open_to_others(folder));
    return closed === undefined ? [] : [{ path, closed }];
  });
  const stash = (i: number) => `/run/stash/${i}`;
  for (const [i, { path }] of hidden.entries()) {
    mkdirSync(stash(i), { recursive: true });
    run("mount", "--bind", path, stash(i));
  }
  for (const closed of new Set(hidden.map((one) => one.closed))) run("mount", "-t", "tmpfs", "-o", "mode=0755", "box", closed);
  for (const [i, { path }] of hidden.entries()) {
    mkdirSync(path, { recursive: true });
    run("mount", "--bind", stash(i), path);
  }
}

/** Whether others may read a file or folder; where umask was 077 they may not. */
const readable = (path: string) => {
  const { mode } = lstatSync(path);
  return (mode & constants.S_IROTH) !== 0 && ((mode & constants.S_IFMT) !== constants.S_IFDIR || open_to_others(path));
};

function furnish_repository(): void {
  const needed = ["", "dist", "dist/helper/main.cjs", "node_modules", "node_modules/pino", "package.json"];
  const coverage = process.env["NODE_V8_COVERAGE"];
  const inside = coverage?.startsWith(`${REPOSITORY}/`) === true ? coverage : undefined;
  if (needed.every((name) => readable(join(REPOSITORY, name)))) {
    run("mount", "--bind", REPOSITORY, REPOSITORY);
    if (inside !== undefined) run("mount", "--bind", inside, inside);
    run("mount", "-o", "remount,bind,ro", REPOSITORY);
    return;
  }
  const copy = "/run/repository";
  cpSync(REPOSITORY, copy, {
    recursive: true,
    verbatimSymlinks: true,
    filter: (path) => !path.startsWith(`${REPOSITORY}/.git`),
  });
  run("chmod", "-R", "go+rX", copy);
  if (inside !== undefined) run("mount", "--bind", inside, inside.replace(REPOSITORY, copy));
  run("mount", "--rbind", copy, REPOSITORY);
}

function add_users(): void {
  const ids = new Set(Object.values(USERS).flatMap(({ uid, gid }) => [`:${uid}:`, `:${gid}:`]));
  for (const [file, lines] of [
    ["/etc/passwd", Object.values(USERS).map(({ name, uid, gid }) => `${name}:x:${uid}:${gid}::/nonexistent:/bin/sh`)],
    [
      "/etc/group",
      [...Object.values(USERS).map(({ name, gid }) => `${name}:x:${gid}:`), `web:x:${WEB_GID}:carol`, "adm:x:4:olaf"],
    ],
  ] as const) {
    const names = new Set(lines.map((line) => line.split(":")[0]));
    const others = readFileSync(file, "utf8")
      .split("\n")
      .filter((line) => line !== "" && !names.has(line.split(":")[0]) && ![...ids].some((id) => line.includes(`x${id}`)));
    writeFileSync(file, `${[...others, ...lines].join("\n")}\n`);
  }
  const nsswitch = "passwd: files\ngroup: files\nhosts: files\n";
  writeFileSync("/etc/nsswitch.conf", nsswitch);
  appendFileSync("/etc/group", "");
}

/** What is done inside, before the first test. */
function furnish(): void {
  run("mount", "--make-rprivate", "/");
  run("ip", "link", "set", "lo", "up");
  run("mount", "-t", "tmpfs", "-o", "mode=0755", "box", "/run");
  mkdirSync("/run/etc");
  run("cp", "-a", "/etc/.", "/run/etc");
  run("mount", "--bind", "/run/etc", "/etc");
  for (const folder of ["/var/log", "/var/lib"]) run("mount", "-t", "tmpfs", "-o", "mode=0755", "box", folder);
  for (const folder of ["/run", "/etc"]) chmodSync(folder, 0o755);
  open_the_way([REPOSITORY, dirname(dirname(process.execPath))]);
  furnish_repository();
  add_users();
  process.umask(0o022);
}

/** Why this machine lets us have no box; undefined if it does. */
export function why_not(): string | undefined {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return "is not root";
  const { status, stderr, error } = spawnSync("unshare", [...UNSHARE, "true"], { encoding: "utf8" });
  return status === 0 ? undefined : (error?.message ?? stderr.trim());
}

/**
 * Marks a test file as skipped and never comes back; where none may skip (LOWPORT_NO_SKIP, which .ci/run sets), as failed.
 * @param url `import.meta.url` of the file
 */
export function skip_file(url: string, reason: string): Promise<never> {
  const skip = process.env["LOWPORT_NO_SKIP"] === undefined && reason;
  test(fileURLToPath(url), { skip }, () => {
    throw new Error(reason);
  });
  process.exitCode = 0; // else node says 13, because the file never goes on from here
  return new Promise(() => undefined);
}

/** Runs the calling test file in a box. Returns only inside of it; @param url `import.meta.url` of the file */
export async function enter_box(url: string): Promise<void> {
  if (process.env["LOWPORT_BOX"] !== undefined) {
    furnish();
    return;
  }
  const reason = why_not();
  if (reason !== undefined) return skip_file(url, `needs root for namespaces of its own: sudo npm test (${reason})`);
  const again = [process.execPath, ...process.execArgv, fileURLToPath(url), ...process.argv.slice(2)];
  // The box dies with this process, whatever ends it.
  const { status, signal } = spawnSync("setpriv", ["--pdeathsig", "KILL", "unshare", ...UNSHARE, ...again], {
    stdio: "inherit",
    env: { ...process.env, LOWPORT_BOX: String(process.pid) },
  });
  if (signal !== null) process.kill(process.pid, signal);
  process.exit(status ?? 1);
}

/** Names in a folder, or none if there is no such folder. */
export function names_in(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
