/**
 * The control socket: made by root in a folder that only root can write, with its owner and mode right before its name
 * appears. A lock beside it says who may use the name; it falls with its process, so it is never stale.
 */
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  existsSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";
import { errno_name, native } from "../shared/native.js";
import { distrust } from "./trusted-path.js";

/** Connections that the kernel queues before they are accepted; it cuts it down to net.core.somaxconn. */
const BACKLOG = 4096;

function make_folder(folder: string): void {
  if (!existsSync(folder)) {
    mkdirSync(folder);
    chmodSync(folder, 0o755); // whatever the umask is
  }
  require_own(folder);
}

/** Not even a sticky folder of root's is: there anybody could put a socket of that name before us. */
function require_own(folder: string): void {
  const why = distrust(folder);
  if (why !== undefined) throw new Error(why);
  if ((lstatSync(folder).mode & 0o022) !== 0) throw new Error(`${folder} can be written by others than root; chmod go-w it`);
}

/**
 * Writes who serves, while root can: in a folder and as a file that nobody else can write, because root's scripts will send
 * signals to whom it names. The helper cannot remove it later; who stops it does.
 */
export function write_pid_file(path: string): void {
  make_folder(dirname(path));
  const unborn = `${path}.new`;
  if (lstatSync(unborn, { throwIfNoEntry: false })) unlinkSync(unborn);
  writeFileSync(unborn, `${process.pid}\n`, { flag: "wx" });
  chmodSync(unborn, 0o644);
  renameSync(unborn, path);
}

/** Who listens where, in /proc/net/unix: the flag and the state of a listening socket. */
const LISTENING = "00010000 0001 01";

/** A control socket that systemd has made must be what the configuration says. @throws Error that says how it is not */
export function check_control_socket(fd: number, path: string, gid: number, mode: number): void {
  const flags = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1] ?? "0";
  if ((Number.parseInt(flags, 8) & constants.O_NONBLOCK) === 0)
    throw new Error("systemd passed it blocking, and one accept would wait for ever; set NonBlocking=yes in the service unit");
  const named = `${LISTENING} ${fstatSync(fd).ino} ${path}`;
  const sockets = readFileSync("/proc/self/net/unix", "utf8").split("\n");
  if (!sockets.some((line) => line.split(/\s+/).slice(3).join(" ") === named))
    throw new Error("systemd passed a socket that does not listen there; run lowportd install again, and have one ListenStream=");
  if (!existsSync(path)) throw new Error("has been removed; systemctl restart lowport.socket lowport.service makes it anew");
  require_own(dirname(path));
  const stats = lstatSync(path);
  const is = `uid ${stats.uid}, gid ${stats.gid}, mode ${(stats.mode & 0o777).toString(8)}`;
  const wanted = `uid 0, gid ${gid}, mode ${mode.toString(8)}`;
  if (is !== wanted)
    throw new Error(`systemd made it with ${is}, and the configuration says ${wanted}; run lowportd install again`);
}

function take_lock(path: string): void {
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK, 0o600);
  if (native().lockFile(fd) < 0) {
    closeSync(fd);
    throw new Error("another helper is serving on this socket; stop it first");
  }
  // Never closed: it is held for the life of the process.
}

/** What stands at the path: nothing, or a socket that nobody listens on. Anything else is refused and left as it is. */
function refuse_what_is_not_stale(path: string): void {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  if (stats === undefined) return;
  if (!stats.isSocket()) throw new Error("is there already and is no socket; move it away");
  const fd = native().openUnix(path, 0);
  if (fd >= 0) closeSync(fd);
  if (fd < 0 && errno_name(fd) === "ECONNREFUSED") return;
  throw new Error("another program is listening there; stop it first");
}

/** @returns the descriptor of a listening socket at `path`, owned by root and `gid`. @throws Error that says what is wrong */
export function make_control_socket(path: string, gid: number, mode: number): number {
  make_folder(dirname(path));
  take_lock(`${path}.lock`);
  refuse_what_is_not_stale(path);
  const unborn = `${path}.new`;
  if (lstatSync(unborn, { throwIfNoEntry: false })) unlinkSync(unborn); // of a helper that died just here; the lock is ours
  const mask = process.umask(0o777);
  const fd = native().openUnix(unborn, BACKLOG);
  process.umask(mask);
  if (fd < 0) throw new Error(`cannot listen: ${errno_name(fd)}`);
  chownSync(unborn, 0, gid);
  chmodSync(unborn, mode);
  renameSync(unborn, path); // replaces a stale one in one step
  return fd;
}
