/** The doctor's checks of what runs: the helper's answer, its privileges on every thread, its pid file and its control socket. */
import { lstatSync, readdirSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import { errno_of } from "../../shared/errors.js";
import { pid_file_of, read_pid_file } from "../../shared/pid-file.js";
import { VERSION } from "../../shared/protocol.js";
import type { Config } from "../config.js";
import { leftover_privileges, parse_status } from "../lockdown.js";
import { distrust } from "../trusted-path.js";
import { octal, ok, type Result, tell, unknown, unless_wrong, wrong } from "./findings.js";
import { look_at } from "./standing.js";

/** What `lowport status --json` says. */
export interface Answer {
  readonly state: string;
  readonly pid?: number;
  readonly version?: string;
  readonly auditSeq?: number;
  readonly policyLoadedAt?: string;
  readonly error?: { readonly code: string; readonly message: string };
}

/** Whether the helper answers, and is the version that is installed. @param init that starts it */
export function check_answer(answer: Answer, init?: string, installed = VERSION): readonly Result[] {
  const { state, pid, version, error } = answer;
  if (state === "running" && version !== installed)
    return [wrong(`version ${version} runs, and ${installed} is installed`, `${tell("restart", init)}: apps keep their sockets`)];
  if (state === "running") return [ok(`lowport ${version} runs and answers, pid ${pid}`)];
  if (state === "unreachable") return [unknown(error?.message ?? state, "sudo lowportd doctor")];
  const log = init === "systemd" ? "journalctl -u lowport" : "syslog (daemon)";
  const why = `lowportd check-config tells what is wrong in its configuration, ${log} why it ended`;
  return [wrong(error?.message ?? state, `${tell(state === "hung" ? "restart" : "start", init)}; ${why}`)];
}

/** Whether every thread has lost what it must, as the helper proves of itself when it starts. */
export function check_privileges(pid: number | undefined, user: Config["user"]): readonly Result[] {
  if (pid === undefined) return [unknown("no helper is running")];
  let tids: string[];
  try {
    tids = readdirSync(`/proc/${pid}/task`);
  } catch (error) {
    if (errno_of(error) !== "ENOENT") throw error;
    return [unknown(`process ${pid} cannot be seen`, "sudo lowportd doctor")];
  }
  const found: Result[] = [];
  for (const tid of tids) {
    const status = parse_status(readFileSync(`/proc/${pid}/task/${tid}/status`, "utf8"));
    // Started by root, or unprivileged by an init: which of the two cannot be seen any more.
    const [left = []] = [true, false]
      .map((as_root) => leftover_privileges(status, user.uid, user.gid, Number(tid) === pid, as_root))
      .toSorted((a, b) => a.length - b.length);
    if (left.length > 0)
      found.push(wrong(`thread ${tid} of process ${pid}: ${left.join(", ")}`, "restart it; if it stays, report it as a hole"));
  }
  return unless_wrong(
    found,
    `${tids.length} threads of process ${pid}, uid ${user.uid}: CAP_NET_BIND_SERVICE and nothing else, no_new_privs, seccomp`,
  );
}

/** The pid file, which scripts signal by. @param pid of the helper that answers @param init that install has written for */
export function check_pid_file(socket: string, pid: number | undefined, init?: string): readonly Result[] {
  const restart = tell("restart", init);
  const path = pid_file_of(socket);
  const file = read_pid_file(path);
  if (file === undefined) {
    if (look_at(path) !== undefined) return [wrong(`${path} holds no process id`, `rm ${path}, and ${restart}`)];
    const wanted = init !== undefined && pid !== undefined;
    return [wanted ? wrong(`${path} is missing`, restart) : ok("there is none, and none is needed")];
  }
  const stats = lstatSync(path);
  const found: Result[] = [];
  if (stats.uid !== 0 || (stats.mode & 0o022) !== 0)
    found.push(
      wrong(
        `${path} belongs to uid ${stats.uid}, mode ${octal(stats.mode)}: others than root decide whom root signals`,
        `chown root:root ${path}; chmod 0644 ${path}`,
      ),
    );
  const gone = !file.alive && look_at(`/proc/${file.pid}`) === undefined;
  if (gone && pid === undefined)
    return unless_wrong(found, `${path} is of process ${file.pid}, which has ended; the next helper writes it anew`);
  if (!file.alive)
    found.push(wrong(`${path} names process ${file.pid}, which is no lowport helper`, `rm ${path}, and ${restart}`));
  else if (pid !== undefined && pid !== file.pid)
    found.push(wrong(`${path} names process ${file.pid}, and ${pid} answers`, restart));
  return unless_wrong(found, `${path} names process ${file.pid}`);
}

/** The control socket against the configuration. @param init that starts the helper */
export function check_socket({ path, gid, mode }: Config["socket"], init?: string): readonly Result[] {
  const restart = tell("restart", init);
  if (look_at(dirname(path)) === undefined) return [wrong(`${dirname(path)} is missing`, restart)];
  const why = distrust(dirname(path));
  if (why !== undefined) return [wrong(`${why}; others could put a socket of their own there`, `do so, and ${restart}`)];
  const stats = look_at(path);
  if (stats === undefined) return [wrong(`${path} is missing`, restart)];
  if (!stats.isSocket()) return [wrong(`${path} is no socket`, `move it away, and ${restart}`)];
  const found: Result[] = [];
  if ((lstatSync(dirname(path)).mode & 0o022) !== 0)
    found.push(wrong(`${dirname(path)} can be written by others than root`, `chmod go-w ${dirname(path)}`));
  if (stats.uid !== 0 || stats.gid !== gid)
    found.push(wrong(`${path} belongs to ${stats.uid}:${stats.gid} and not to 0:${gid}`, `chown 0:${gid} ${path}`));
  if ((stats.mode & 0o777) !== mode)
    found.push(wrong(`${path} has mode ${octal(stats.mode & 0o777)} and not ${octal(mode)}`, `chmod ${octal(mode)} ${path}`));
  return unless_wrong(found, `${path} belongs to 0:${gid}, mode ${octal(mode)}`);
}

/**
 * What Yama, of which ptrace(2) tells, takes from `lowport exec`. It guards the host against more than lowport, so no value of it is
 * wrong.
 */
export function check_exec(file = "/proc/sys/kernel/yama/ptrace_scope"): readonly Result[] {
  const scope = look_at(file) === undefined ? 0 : Number(readFileSync(file, "utf8"));
  if (scope === 0) return [ok("Yama does not restrict lowport exec")];
  const served = scope === 1 ? "the program itself and not its children" : "no program";
  const instead = "exec --listen and lowport/register do not need that; nor does anything with sysctl kernel.yama.ptrace_scope=0";
  return [ok(`kernel.yama.ptrace_scope is ${scope}, so lowport exec serves ${served}; ${instead}`)];
}
