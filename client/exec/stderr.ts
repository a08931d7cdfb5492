/**
 * Tells the person at the program's stderr why a bind was refused, through the stderr of the very process that asked. The
 * supervisor has no stderr of its own: it would keep a pipe open after the program has closed it, or has become a daemon.
 * Never waits, and does not write into what only happens to be descriptor 2: a database, say, in a daemon that has closed it.
 */
import { closeSync, fstatSync } from "node:fs";
import { errno_name } from "../../shared/native.js";
import { printable } from "../command/terminal.js";
import { exec_native } from "./native.js";
import { closes_on_exec, fdinfo_of, from_fdinfo, link_of, numbers_of, read_status } from "./processes.js";

/** Which file stderr was when the program was started; undefined: none. */
export interface FileId {
  readonly dev: number;
  readonly ino: number;
}

/** Loaded when it is needed: with it comes the network, which takes a Node that compiles nothing 7 ms. */
const is_terminal = (fd: number) => process.getBuiltinModule("node:tty").isatty(fd);

const READ_ONLY = 0;
const WRITE_ONLY = 0o1;
const O_APPEND = 0o2000;

const flags_of = (fdinfo: string) => Number.parseInt(from_fdinfo(fdinfo, "flags"), 8);
const access_of = (fdinfo: string) => flags_of(fdinfo) & 0o3;

const is_same = (file: FileId, other: FileId | undefined) => file.dev === other?.dev && file.ino === other.ino;

/** Whether a process writes to itself through that pipe, to wake up, say. */
function reads_itself(id: number, number: number): boolean {
  const pipe = link_of(id, number);
  return numbers_of(id)?.some((one) => link_of(id, one) === pipe && access_of(fdinfo_of(id, one)) === READ_ONLY) === true;
}

/**
 * Whether descriptor 2 of a process or thread is what a program writes its complaints to: what it was at the start, or a
 * terminal, a pipe or the end of a log, to which somebody has redirected it. A redirection never closes at exec, as most of
 * what a program opens for itself does.
 * @param fd a copy of it here
 */
function is_for_people(fd: number, id: number, started: FileId | undefined): boolean {
  const stat = fstatSync(fd);
  if (is_same(stat, started)) return true;
  const fdinfo = fdinfo_of(id, 2);
  if (fdinfo === "" || closes_on_exec(fdinfo)) return false;
  if (stat.isFIFO()) return !reads_itself(id, 2);
  const at_its_end = (flags_of(fdinfo) & O_APPEND) !== 0 || Number(from_fdinfo(fdinfo, "pos")) === stat.size;
  return is_terminal(fd) || (stat.isFile() && access_of(fdinfo) === WRITE_ONLY && at_its_end);
}

/** The file that is descriptor `fd` here. */
export function file_id(fd: number): FileId | undefined {
  try {
    const { dev, ino } = fstatSync(fd);
    return { dev, ino };
  } catch {
    return undefined;
  }
}

/** Says each thing once. */
export class Complaints {
  readonly #program: number;
  readonly #started: FileId | undefined;
  readonly #said = new Set<string>();

  /** @param program the process that was started, @param started its stderr */
  constructor(program: number, started: FileId | undefined) {
    this.#program = program;
    this.#started = started;
  }

  /** @param about what is said only once. @param thread whose stderr it goes to, of that process */
  say(about: string, text: string, thread: number, process: number): void {
    if (this.#said.has(about)) return;
    this.#said.add(about);
    const take = (id: number, of = id) => ({ id, fd: exec_native().takeFd(id, of, 2) });
    const is_hidden = ({ fd }: { fd: number }) => fd < 0 && errno_name(fd) === "EPERM";
    let found = take(thread, process);
    // Who may not be looked into has in most cases the stderr of who started it: the program, and that its own starter's.
    if (is_hidden(found)) found = take(this.#program);
    const starter = is_hidden(found) ? read_status(this.#program)?.parent : undefined;
    if (starter !== undefined) found = take(starter);
    const { id, fd } = found;
    if (fd < 0) return;
    try {
      // The starter's may be a terminal from which the program's was redirected.
      const is_right = starter === undefined ? is_for_people(fd, id, this.#started) : is_same(fstatSync(fd), this.#started);
      if (is_right) exec_native().writeNow(fd, Buffer.from(`lowport exec: ${printable(text)}\n`));
    } finally {
      closeSync(fd);
    }
  }
}
