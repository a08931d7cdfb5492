/**
 * Tells the person at the program's stderr why a bind was refused, through the stderr of the very process that asked. The
 * supervisor has no stderr of its own: it would keep a pipe open after the program has closed it, or has become a daemon.
 * Never waits, and never writes into what only happens to be descriptor 2: a database, say, in a daemon that has closed it.
 */
import { closeSync, fstatSync, readFileSync } from "node:fs";
import { errno_name } from "../../shared/native.js";
import { printable } from "../command/terminal.js";
import { exec_native } from "./native.js";

/** Which file stderr was when the program was started; undefined: none. */
export interface FileId {
  readonly dev: number;
  readonly ino: number;
}

const WRITE_ONLY = 0o1;

/** Whether it is what a program writes its complaints to: what it was at the start, a terminal, a pipe, a log file. */
function is_for_people(fd: number, started: FileId | undefined): boolean {
  const stat = fstatSync(fd);
  if (stat.dev === started?.dev && stat.ino === started.ino) return true;
  const flags = Number.parseInt(/^flags:\s*([0-7]+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1] ?? "0", 8);
  return stat.isFIFO() || stat.isCharacterDevice() || (stat.isFile() && (flags & 0o3) === WRITE_ONLY);
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
    let fd = exec_native().takeFd(thread, process, 2);
    // Who may not be looked into has in most cases the stderr of who started it.
    if (fd < 0 && errno_name(fd) === "EPERM") fd = exec_native().takeFd(this.#program, this.#program, 2);
    if (fd < 0) return;
    try {
      if (is_for_people(fd, this.#started)) exec_native().writeNow(fd, Buffer.from(`lowport exec: ${printable(text)}\n`));
    } finally {
      closeSync(fd);
    }
  }
}
