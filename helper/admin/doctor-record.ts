/** The doctor's checks of the record and of what it needs: the audit log and its chain, the clock, and room on the disk. */
import { closeSync, constants, fstatSync, openSync, readdirSync, readSync, statfsSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { unseal } from "../../shared/chain.js";
import type { User } from "../posix.js";
import { octal, ok, type Result, unknown, unless_wrong, wrong } from "./findings.js";
import { look_at } from "./standing.js";

/** Bytes and inodes that should at least be free where the log is, and where socket and pid file are. */
const ROOM = { log: { bytes: 32 << 20, inodes: 100 }, run: { bytes: 1 << 20, inodes: 20 } };
/** Milliseconds by which two clocks that agree may differ. */
const CLOCK_SLACK_MS = 2_000;
/** Of the end of a log; a line is at most a fraction of it. */
const TAIL_BYTES = 1 << 20;
const NEWLINE = 10;
/** What logrotate makes of a name, uncompressed. */
const ROTATED = /^(\.\d+|-\d{8}[\d.-]*)$/;
const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;

/** The log's files that rotation has moved away and not compressed, in no order. Links and the like are none. */
function rotated_of(path: string): string[] {
  const name = basename(path);
  return readdirSync(dirname(path))
    .filter((other) => other.startsWith(name) && ROTATED.test(other.slice(name.length)))
    .map((other) => join(dirname(path), other))
    .filter((file) => look_at(file)?.isFile() === true);
}

/** Who owns the audit log and its folder, and who else may do what. @param runs the helper answers, and so writes the log */
export function check_audit_log(path: string, user: User, runs = true): readonly Result[] {
  const folder = dirname(path);
  const place = look_at(folder);
  if (place === undefined)
    return [wrong(`${folder} is missing`, `install -d -o ${user.name} -g adm -m 2750 ${folder}, or sudo lowportd install`)];
  const found: Result[] = [];
  if (!place.isDirectory()) return [wrong(`${folder} is no folder`, "move it away and restart it")];
  if (place.uid !== user.uid)
    found.push(wrong(`${folder} belongs to uid ${place.uid} and not to ${user.name}`, `chown ${user.name} ${folder}`));
  if ((place.mode & 0o022) !== 0)
    found.push(wrong(`${folder} has mode ${octal(place.mode)}: others can replace the log`, `chmod go-w ${folder}`));
  const stats = look_at(path);
  if (stats === undefined && !runs && rotated_of(path).length > 0)
    return unless_wrong(found, `${path} was rotated while no helper ran; the next one makes it`);
  if (stats === undefined) return [...found, wrong(`${path} is missing`, "restart it, and find out who removed it")];
  if (!stats.isFile()) return [...found, wrong(`${path} is no regular file`, "move it away and restart it")];
  if (stats.uid !== user.uid)
    found.push(wrong(`${path} belongs to uid ${stats.uid} and not to ${user.name}`, `chown ${user.name} ${path}`));
  if ((stats.mode & 0o137) !== 0)
    found.push(
      wrong(`${path} has mode ${octal(stats.mode)}: more than its user to write and a group to read`, `chmod 0640 ${path}`),
    );
  return unless_wrong(found, `${path} belongs to ${user.name}, mode ${octal(stats.mode)}`);
}

/** The last bytes of a regular file, or the first if `from` is 0. */
function read_some(path: string, from: number | "end"): Buffer {
  const fd = openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  try {
    const { size } = fstatSync(fd);
    const bytes = Buffer.alloc(Math.min(size, TAIL_BYTES));
    return bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, from === "end" ? size - bytes.length : from));
  } finally {
    closeSync(fd);
  }
}

/** The log's files that are not compressed, oldest first, by the number of their first record. */
export function files_of_log(path: string): string[] {
  const first_record = (file: string) => {
    const bytes = read_some(file, 0);
    return unseal(bytes.subarray(0, Math.max(0, bytes.indexOf(NEWLINE))))?.seq ?? Number.MAX_SAFE_INTEGER;
  };
  const rotated = rotated_of(path)
    .filter((file) => look_at(file)?.size !== 0)
    .map((file) => ({ file, seq: first_record(file) }))
    .toSorted((a, b) => a.seq - b.seq);
  return [...rotated.map(({ file }) => file), ...(look_at(path) === undefined ? [] : [path])];
}

/** What `lowport audit verify --json` says. */
export interface Verdict {
  readonly lines: number;
  readonly damage: readonly { file: string; line: number; kind: string; reason: string }[];
}

/** Whether the chain holds. @param verify runs `lowport audit verify` on files */
export function check_chain(path: string, verify: (files: readonly string[]) => Verdict): readonly Result[] {
  // Whoever owns the folder could have put a fifo there, which nobody would ever write to, or a link to any file of root's.
  const stats = look_at(path);
  if (stats !== undefined && !stats.isFile()) return [unknown(`${path} is no regular file`, "see audit-log")];
  const files = look_at(dirname(path)) === undefined ? [] : files_of_log(path);
  if (files.length === 0) return [unknown("there is no log", "see audit-log")];
  let verdict = verify(files);
  // The last line may have been half written when it was read.
  if (verdict.damage.length > 0) verdict = verify(files);
  const cure = "keep the files as they are, and compare with the heads that syslog has (authpriv)";
  return unless_wrong(
    verdict.damage.map(({ file, line, kind, reason }) => wrong(`${file}:${line}: ${kind}: ${reason}`, cure)),
    `${verdict.lines} line${verdict.lines === 1 ? "" : "s"} in ${files.length} file${files.length === 1 ? "" : "s"}`,
  );
}

/** When the last record was written; undefined if there is none. */
function last_record_time(path: string): number | undefined {
  const bytes = read_some(path, "end");
  const end = bytes.lastIndexOf(NEWLINE);
  const record = end <= 0 ? undefined : unseal(bytes.subarray(bytes.lastIndexOf(NEWLINE, end - 1) + 1, end))?.record;
  return record === undefined ? undefined : Date.parse(String(record["time"]));
}

/**
 * The system's clock against two times that are in the past.
 * @param installed a file that was written with this release
 */
export function check_clock(installed: string, path: string, now = Date.now()): readonly Result[] {
  const cure = "set the clock (timedatectl, chronyc, hwclock): records get their time from it";
  const at = (time: number) => new Date(time).toISOString();
  const built = statSync(installed).mtimeMs;
  if (now + CLOCK_SLACK_MS < built)
    return [wrong(`it is ${at(now)} here, before this lowport was installed (${at(built)})`, cure)];
  const last = look_at(path)?.isFile() === true ? last_record_time(path) : undefined;
  if (last !== undefined && now + CLOCK_SLACK_MS < last)
    return [wrong(`it is ${at(now)} here, and the last audit record is of ${at(last)}`, cure)];
  return [ok(`it is ${at(now)}`)];
}

/** Room where the log and where socket and pid file are. Without it nothing is granted. */
export function check_disk(log_folder: string, run_folder: string, statfs = statfsSync): readonly Result[] {
  const told: string[] = [];
  const found: Result[] = [];
  for (const [folder, least] of [
    [log_folder, ROOM.log],
    [run_folder, ROOM.run],
  ] as const) {
    const { bavail, bsize, files, ffree } = statfs(folder);
    const mebibytes = Math.floor((bavail * bsize) / (1 << 20));
    if (bavail * bsize < least.bytes)
      found.push(wrong(`${folder} has ${mebibytes} MiB free`, "make room: what cannot be recorded is not granted"));
    // Some file systems count none.
    if (files > 0 && ffree < least.inodes) found.push(wrong(`${folder} has ${ffree} inodes free`, "remove files there"));
    told.push(`${folder} has ${mebibytes} MiB free`);
  }
  return unless_wrong(found, told.join(", "));
}

/** For checks that cannot be made without a configuration. */
export const no_config: readonly Result[] = [unknown("the configuration must be put right first")];
