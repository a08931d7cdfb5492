/**
 * `lowport exec`: this process becomes the program. It starts a supervisor apart from itself, puts a filter on bind(2) whose
 * questions the supervisor answers, and executes the program in place; so that the program's process id, parent, signals,
 * exit status, terminal, group and session are what they would be without us, because nothing stands between.
 * Nothing here should touch process.stdin, stdout or stderr, nor import node:process, which does: they become non-blocking,
 * for everybody who shares them, until the last moment before the program takes over.
 * The program gains no right by it, and its setuid programs gain none either (no_new_privs).
 */
import { accessSync, closeSync, constants as fs, statSync, writeSync } from "node:fs";
import { basename } from "node:path";
import { errno_name, MAX_FDS, native } from "../../shared/native.js";
import { keep_alive } from "../../shared/poll.js";
import { DEFAULT_SOCKET, EXIT } from "../../shared/protocol.js";
import { printable } from "../command/terminal.js";
import { LowportError } from "../errors.js";
import { supervisor } from "../own-addon.js";
import { own_environment, own_words, read_inherited } from "./inherited.js";
import { type Order, type Report, read_message, type ToListen } from "./messages.js";
import { exec_native } from "./native.js";
import { BadWords, type ExecOptions, parse_exec } from "./options.js";
import { file_id } from "./stderr.js";

/** As a shell says them. */
const NOT_EXECUTABLE = 126;
const NOT_FOUND = 127;

/** The supervisor's Node: it has little to remember, and compiles little. */
const NODE_FLAGS = ["--jitless", "--max-old-space-size=64", "--max-semi-space-size=1", "--v8-pool-size=0"];

/** An end of this command, and what it says. */
class Exit extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Tells of a program that is not dumpable, because its user may not read it (execve(2)). */
function look_whether_readable(name: string, file: Buffer): void {
  try {
    accessSync(file, fs.R_OK);
  } catch {
    complain(`${name}: it may not be read, so nobody may look into it, and it gets no port from the helper`);
  }
}

/** Looks for the program as execvp(3) will, by bytes, which need be no text. @param name for people. @returns its path. @throws Exit */
function require_program(name: string, bytes: Buffer, environment: Buffer): Buffer {
  const file = bytes.toString("latin1");
  const [, list = "/bin:/usr/bin"] = /(?:^|\0)PATH=([^\0]*)/.exec(environment.toString("latin1")) ?? [];
  const paths = file.includes("/") ? [file] : list.split(":").map((folder) => `${folder || "."}/${file}`);
  let there = false;
  for (const text of file === "" ? [] : paths) {
    const path = Buffer.from(text, "latin1");
    try {
      const isFile = statSync(path).isFile();
      there = true;
      if (!isFile) continue;
      accessSync(path, fs.X_OK);
      return path;
    } catch {
      // The next may be it.
    }
  }
  if (there) throw new Exit(NOT_EXECUTABLE, `${name}: it cannot be executed; is it a program, and may you?`);
  throw new Exit(NOT_FOUND, `${name}: there is no such program${name.includes("/") ? "" : " in PATH"}`);
}

const words = (list: readonly string[]) => Buffer.from(list.map((word) => `${word}\0`).join(""));

const bits = (numbers: readonly number[]) => numbers.reduce((mask, number) => mask | (1 << number), 0);

/** @returns the socket to it */
function start_supervisor(): number {
  // Nothing of the program's environment: what is meant for its Node (NODE_OPTIONS) is not meant for ours.
  const library = process.env["LD_LIBRARY_PATH"];
  const env = library === undefined ? [] : [`LD_LIBRARY_PATH=${library}`];
  const channel = exec_native().startApart(words([process.execPath, ...NODE_FLAGS, supervisor()]), words(env));
  if (channel < 0) throw new Exit(EXIT.bug, `the supervisor cannot be started: ${errno_name(channel)}`);
  return channel;
}

/** What systemd kills or refuses by SystemCallFilter=@system-service, and containers by their profiles; lowport(1) has a unit. */
const FILTERED =
  "a filter forbids that; a systemd unit needs SystemCallFilter=@system-service seccomp pidfd_getfd pkey_alloc, a container a profile " +
  "that lets these through";

/** @returns the listener, or undefined where somebody listens already. @throws Exit */
function trap(): number | undefined {
  const listener = exec_native().trapBind();
  if (listener >= 0) return listener;
  const name = errno_name(listener);
  if (name === "EINVAL" || name === "ENOSYS")
    throw new Exit(EXIT.bug, `this kernel lets no filter tell of bind(2) (${name}); it takes Linux 5.9 with seccomp`);
  if (name !== "EBUSY") throw new Exit(EXIT.bug, `seccomp is forbidden to this process (${name}): ${FILTERED}`);
  complain("a supervisor watches this process already (another lowport exec, or its container's): what it does counts");
  return undefined;
}

/** The supervisor is under the same filters as this process, and could say nothing where it may not do this. */
function try_to_copy(fd: number): void {
  const copy = exec_native().takeFd(process.pid, process.pid, fd);
  if (copy >= 0) closeSync(copy);
  else complain(`no port will come from the helper: pidfd_getfd(2) fails (${errno_name(copy)}); ${FILTERED}`);
}

function complain(text: string): void {
  try {
    writeSync(2, `lowport: exec: ${printable(text)}\n`);
  } catch {
    // There is no stderr.
  }
}

const EXITS: Readonly<Record<string, number>> = { EACCES: EXIT.noPermission, EPERM: EXIT.noPermission };

function refused({ code, reason, syscall }: NonNullable<Report["error"]>): Exit {
  const status = syscall === "connect" ? (EXITS[code] ?? EXIT.unreachable) : EXIT.refused;
  return new Exit(status, `${code}: ${reason}`);
}

/** LISTEN_FDS and its kin, as sd_listen_fds(3) reads them. */
function listen_variables(sockets: readonly ToListen[]): Record<string, string> {
  if (sockets.length === 0) return {};
  const names = sockets.map(({ protocol, port }) => `${protocol}-${port}`);
  return { LISTEN_FDS: String(sockets.length), LISTEN_PID: String(process.pid), LISTEN_FDNAMES: names.join(":") };
}

async function launch({ hold, socket, sockets, command }: ExecOptions): Promise<never> {
  const inherited = read_inherited(); // first, before we open anything
  const [name = ""] = command;
  const argv = own_words(command.length);
  const file = require_program(name, argv.subarray(0, argv.indexOf(0)), own_environment(inherited.added));
  if (sockets.length > 0 && process.env["LISTEN_PID"] === String(process.pid))
    throw new Exit(EXIT.usage, "systemd has passed sockets to this process already; let its socket unit have all, or --listen");
  // Before the filter, which the supervisor must not have.
  const channel = start_supervisor();
  const listener = sockets.length === 0 ? trap() : undefined;
  if (listener !== undefined) {
    try_to_copy(channel);
    look_whether_readable(name, file);
  }
  let fds: number[] = [];
  if (listener !== undefined || sockets.length > 0) {
    const path = socket ?? (process.env["LOWPORT_SOCKET"] || DEFAULT_SOCKET);
    const order: Order = { pid: process.pid, program: basename(name), hold, socket: path, sockets, stderr: file_id(2) };
    const passed = listener === undefined ? [] : [listener];
    const line = Buffer.from(`${JSON.stringify(order)}\n`);
    if (native().send(channel, line, Int32Array.from(passed), passed.length) !== line.length)
      throw new Exit(EXIT.bug, "the supervisor does not listen");
    const [report, received] = await read_message<Report>(channel, MAX_FDS).finally(() => keep_alive(false));
    if (report.error !== undefined) throw refused(report.error);
    fds = received;
    exec_native().allowTracer(report.pid); // there is nothing to allow without Yama
  }
  const error = exec_native().become(
    argv,
    own_environment(inherited.added, listen_variables(sockets)),
    Int32Array.from(fds),
    Int32Array.from(inherited.descriptors),
    Int32Array.of(...inherited.ignored, ...inherited.blocked, inherited.softLimit, bits(inherited.nonblocking)),
  );
  const code = errno_name(error);
  complain(`${name}: it cannot be executed: ${code}`);
  return exec_native().leave(code === "ENOENT" ? NOT_FOUND : NOT_EXECUTABLE);
}

/** Runs `lowport exec`. @param args what follows. @returns how to exit, if it has not become the program */
export async function run_exec(args: readonly string[]): Promise<number> {
  try {
    const options = parse_exec(args);
    if (options !== "help") return await launch(options);
    const [{ explain }, { command }] = await Promise.all([import("../command/help.js"), import("./command.js")]);
    writeSync(1, `${explain({ exec: command }).text}\n`);
    return EXIT.ok;
  } catch (error) {
    if (error instanceof BadWords) complain(`${error.message}; see lowport exec --help`);
    else complain(error instanceof LowportError ? error.reason : (error as Error).message);
    return error instanceof BadWords ? EXIT.usage : error instanceof Exit ? error.status : EXIT.bug;
  }
}
