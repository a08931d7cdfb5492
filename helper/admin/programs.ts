/**
 * The system's own programs that install and uninstall call (useradd, systemctl, ...). They are looked up in the system's
 * folders and never in the caller's PATH, and get a fixed environment: what the admin's shell exports decides nothing. They
 * run in a session of their own, so that a Ctrl-C reaches install alone, which then undoes what it did.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, closeSync, constants, fstatSync, mkdtempSync, openSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const FOLDERS = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
const ENVIRONMENT = { PATH: FOLDERS.join(":"), LC_ALL: "C" };
/** Milliseconds; a service manager gives up by itself before. */
const LIMIT_MS = 120_000;
/** Bytes of output that are looked at. */
const MAX_OUTPUT = 65_536;

/** The path of a program of the system, or undefined. */
export function find_program(name: string): string | undefined {
  return FOLDERS.map((folder) => join(folder, name)).find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** How a program ended: its exit code (null: killed), and what it wrote to either stream. */
export interface Ended {
  readonly code: number | null;
  readonly output: string;
}

/** A file without a name: a pipe would be kept open by a daemon that the program leaves behind. */
function open_output(): number {
  const folder = mkdtempSync(process.getuid?.() === 0 ? "/run/lowport-output-" : join(tmpdir(), "lowport-output-"));
  try {
    return openSync(join(folder, "output"), constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Runs a program to its end. @param file a name that find_program finds, or an absolute path. @throws if it cannot be started */
export async function run_program(file: string, args: readonly string[]): Promise<Ended> {
  const path = file.startsWith("/") ? file : find_program(file);
  if (path === undefined) throw new Error(`there is no ${file} in ${FOLDERS.join(", ")}; install the package that has it`);
  const fd = open_output();
  try {
    const child = spawn(path, args, { cwd: "/", detached: true, env: ENVIRONMENT, stdio: ["ignore", fd, fd] });
    const timer = setTimeout(() => process.kill(-(child.pid as number), "SIGKILL"), LIMIT_MS);
    const [code] = (await once(child, "exit").finally(() => clearTimeout(timer))) as [number | null];
    const bytes = Buffer.alloc(Math.min(fstatSync(fd).size, MAX_OUTPUT));
    readSync(fd, bytes, 0, bytes.length, 0);
    return { code, output: bytes.toString().trim() };
  } finally {
    closeSync(fd);
  }
}

/** Runs a program that must succeed. @throws Error that quotes what it said */
export async function must_run(file: string, ...args: string[]): Promise<string> {
  const { code, output } = await run_program(file, args);
  if (code !== 0)
    throw new Error(`${[file, ...args].join(" ")}: ${code === null ? "was killed" : `exit ${code}`}: ${output || "(no output)"}`);
  return output;
}
