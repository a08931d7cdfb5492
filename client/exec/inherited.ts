/**
 * What this process was started with, for the program that it becomes. Node changes some of it before our first line runs: it
 * marks inherited descriptors close-on-exec, raises the limit of descriptors, takes every ignored signal back to its default,
 * unblocks all, ignores SIGPIPE, and may make stdio non-blocking for all who share it. The `lowport` command notes it all before Node starts (../lowport.sh) in a variable of the environment.
 * Where that is missing, because cli.js was started directly, it is inferred: descriptors as far as they are not of a kind
 * that Node makes, the limit from the parent, the signals as defaults.
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/**
 * The variable: ignored and blocked signals as in /proc/PID/status, soft limit of descriptors, numbers of descriptors with commas,
 * those of stdio that do not block, names with commas of variables that the shell has added.
 */
export const NOTED = "LOWPORT_EXEC_INHERITED";

/** Begins the names of variables that the script has kept from our Node. */
const KEPT_BACK = "LOWPORT_EXEC_";
/** How many variables, named so with a number from 1 on, have the environment as it was before the script, as base64; 0: not noted. */
const ENVIRON = "LOWPORT_EXEC_ENVIRON";

export interface Inherited {
  /** Signals 1 to 32 and 33 to 64, a bit each. */
  readonly ignored: readonly [number, number];
  readonly blocked: readonly [number, number];
  /** Soft RLIMIT_NOFILE; -1: leave it. */
  readonly softLimit: number;
  /** Numbers, those of stdio among them. */
  readonly descriptors: readonly number[];
  /** Of stdio, what does not block. */
  readonly nonblocking: readonly number[];
  /** Variables of the environment that were not there. */
  readonly added: readonly string[];
}

const O_CLOEXEC = 0o2000000;
/** What Node opens for itself. An inherited one of these kinds cannot be told apart. */
const OF_NODE = /^anon_inode:\[(eventpoll|eventfd|io_uring|timerfd|signalfd|pidfd)\]/;

type Mask = [number, number];

function split_mask(mask: bigint): Mask {
  return [Number(mask & 0xffffffffn) | 0, Number(mask >> 32n) | 0];
}

const SIGINT = 1n << 1n;
const SIGQUIT = 1n << 2n;

/**
 * Some shells (bash, ash) ignore SIGQUIT themselves, and give it back to what they start. Whoever ignores it for others, as for
 * a job in the background, ignores SIGINT too.
 */
const without_the_shells_own = (mask: bigint) => ((mask & SIGINT) === 0n ? mask & ~SIGQUIT : mask);

/** @returns undefined if the note is not one. */
export function parse_note(note: string | undefined): Inherited | undefined {
  const form = /^([0-9a-f]{16}):([0-9a-f]{16}):(\d+|unlimited):((?:\d+,)*):((?:[012],)*):((?:\w+,)*)$/;
  const [whole, ignored, blocked, limit, numbers = "", nonblocking = "", added = ""] = form.exec(note ?? "") ?? [];
  if (whole === undefined) return undefined;
  return {
    ignored: split_mask(without_the_shells_own(BigInt(`0x${ignored}`))),
    blocked: split_mask(BigInt(`0x${blocked}`)),
    softLimit: limit === "unlimited" ? -1 : Math.min(Number(limit), 2 ** 31 - 1),
    descriptors: numbers.split(",").slice(0, -1).map(Number),
    nonblocking: nonblocking.split(",").slice(0, -1).map(Number),
    added: added.split(",").slice(0, -1),
  };
}

interface OpenFile {
  readonly fd: number;
  readonly link: string;
  readonly closeOnExec: boolean;
}

function open_files(): OpenFile[] {
  return readdirSync("/proc/self/fd")
    .map(Number)
    .flatMap((fd) => {
      try {
        const link = readlinkSync(`/proc/self/fd/${fd}`);
        const flags = /^flags:\s*([0-7]+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1] ?? "0";
        return [{ fd, link, closeOnExec: (Number.parseInt(flags, 8) & O_CLOEXEC) !== 0 }];
      } catch {
        return []; // the one that read the folder
      }
    });
}

/** Those that cannot be Node's. Both ends of a pipe in one process are Node's own; so is a /dev/null that it opened late. */
export function infer_descriptors(files: readonly OpenFile[]): number[] {
  const first = Math.min(...files.filter(({ link, closeOnExec }) => closeOnExec && OF_NODE.test(link)).map(({ fd }) => fd));
  const ends = (link: string) => files.filter((file) => file.link === link).length;
  return files
    .filter(({ fd, link, closeOnExec }) => {
      if (fd <= 2) return true; // or it was closed, and Node has put /dev/null there
      const of_node = OF_NODE.test(link) || (link.startsWith("pipe:") && ends(link) > 1) || (link === "/dev/null" && fd > first);
      return !closeOnExec || !of_node;
    })
    .map(({ fd }) => fd);
}

function limits_of(id: number | "self"): { soft: string; hard: string } | undefined {
  try {
    const [, soft = "", hard = ""] = /^Max open files\s+(\S+)\s+(\S+)/m.exec(readFileSync(`/proc/${id}/limits`, "utf8")) ?? [];
    return { soft, hard };
  } catch {
    return undefined;
  }
}

function infer_limit(): number {
  const [own, parent] = [limits_of("self"), limits_of(process.ppid)];
  return own !== undefined && parent?.hard === own.hard && /^\d+$/.test(parent.soft) ? Number(parent.soft) : -1;
}

/** What this process was started with, as far as it can be known. */
export function read_inherited(): Inherited {
  const noted = parse_note(process.env[NOTED]);
  if (noted !== undefined) return noted;
  const descriptors = infer_descriptors(open_files());
  return { ignored: [0, 0], blocked: [0, 0], softLimit: infer_limit(), descriptors, nonblocking: [], added: [] };
}

/** The last `count` words of this process's command line, each ended by a NUL, as the bytes that they were. */
export function own_words(count: number): Buffer {
  const all = readFileSync("/proc/self/cmdline");
  let start = all.length;
  for (let i = 0; i < count; i++) start = all.lastIndexOf(0, start - 2) + 1;
  return all.subarray(start);
}

const split = (environ: Buffer) => environ.toString("latin1").split("\0").slice(0, -1);

/** What the shell has left of the environment, without what it has added. */
function left_by_the_shell(added: readonly string[]): string[] {
  const gone = new Set([NOTED, ENVIRON, ...added]);
  return split(readFileSync("/proc/self/environ"))
    .map((variable) => (/^LOWPORT_EXEC_(NODE|OPENSSL)_/.test(variable) ? variable.slice(KEPT_BACK.length) : variable))
    .filter((variable) => !gone.has(variable.slice(0, variable.indexOf("="))));
}

/**
 * The environment that the command was started with, as the bytes that it was, each variable ended by a NUL.
 * @param added variables that the shell has added. @param set in place of what was there
 */
export function own_environment(added: readonly string[], set: Readonly<Record<string, string>> = {}): Buffer {
  const parts = Array.from({ length: Number(process.env[ENVIRON] ?? 0) }, (_, i) => process.env[`${ENVIRON}_${i + 1}`]);
  const noted = parts.join("");
  const was = noted === "" ? left_by_the_shell(added) : split(Buffer.from(noted, "base64"));
  const kept = was.filter((variable) => !Object.keys(set).some((name) => variable.startsWith(`${name}=`)));
  const new_ones = Object.entries(set).map(([name, value]) => Buffer.from(`${name}=${value}`).toString("latin1"));
  return Buffer.from([...kept, ...new_ones].map((variable) => `${variable}\0`).join(""), "latin1");
}
