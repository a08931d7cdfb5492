/** What the bench runs on, and the programs that it is made with. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { REPOSITORY } from "../fixtures.js";

/** Processors this process may run on. */
function allowed_cpus(): number[] {
  const list = /^Cpus_allowed_list:\s*(\S+)/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0";
  return list.split(",").flatMap((range) => {
    const [first = 0, last = first] = range.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}

const allowed = allowed_cpus();
/** The processor that everything is pinned to whose *cost* is measured: a wake-up on another one would hide it. */
export const CPU = allowed.at(-1) ?? 0;
/** Another one, for the load where *throughput* is measured. */
export const OTHER_CPU = allowed[0] ?? 0;

/** A command line that runs on one processor. */
export function pinned(cpu: number, ...command: string[]): string[] {
  return ["taskset", "-c", String(cpu), ...command];
}

/** One line about this machine. */
export function machine(): string {
  const gib = (totalmem() / 2 ** 30).toFixed(0);
  return `${cpus()[0]?.model.trim()}, ${allowed.length} CPUs, ${gib} GiB, Linux ${release().split("-")[0]}, Node ${process.versions.node}`;
}

/** Whether a program is in PATH. */
export function has(command: string): boolean {
  return spawnSync("sh", ["-c", `command -v ${command}`], { stdio: "ignore" }).status === 0;
}

/** Packages of the peers. */
const PACKAGES = ["authbind", "dbus-daemon", "haproxy", "nginx", "s6", "sudo", "systemd"];
/** Their versions, which were asked for outside of the box: inside there is nothing in /var/lib. */
const VERSIONS = (process.env["LOWPORT_BENCH_VERSIONS"] ??= spawnSync(
  "dpkg-query",
  ["-W", "-f", "${Package} ${Version}\n", ...PACKAGES],
  {
    encoding: "utf8",
  },
).stdout);

/** The version that dpkg knows of a peer's package; "?" if it was installed in another way. */
export function version_of(package_name: string): string {
  return new RegExp(`^${package_name} (.+)$`, "m").exec(VERSIONS)?.[1] ?? "?";
}

/**
 * Compiles a program of test/bench/native. @param libraries such as `-lpthread`
 * @returns its path. @throws with what the compiler said
 */
export function compile(name: string, ...libraries: string[]): string {
  const out = join("/run/bench", name); // the checkout is read-only in the box
  mkdirSync(dirname(out), { recursive: true });
  const flags = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE"];
  execFileSync("cc", [...flags, "-o", out, join(REPOSITORY, "test/bench/native", `${name}.c`), ...libraries], { stdio: "pipe" });
  return out;
}
