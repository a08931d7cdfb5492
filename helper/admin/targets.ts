/**
 * What install puts into the system: folders, files and symbolic links, each as a change that is only there if the system is not
 * so already, and only where standing.ts lets it. Files appear whole, by rename, with owner and mode whatever the umask.
 */
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";
import type { Change } from "./changes.js";
import { beside, kind_of, look_at, look_at_file, missing_folders, octal, Refusal, sync_folder } from "./standing.js";

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}
export interface Target {
  readonly path: string;
  readonly text: string;
  readonly mode: number;
}

const ROOT: Owner = { uid: 0, gid: 0 };
const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;

/** Writes a new file whole, or throws and leaves none. */
function write_new(path: string, text: string, mode: number): void {
  const fd = openSync(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  try {
    writeFileSync(fd, text);
    fchownSync(fd, 0, 0);
    fchmodSync(fd, mode);
    fsyncSync(fd);
  } catch (error) {
    rmSync(path, { force: true });
    throw error;
  } finally {
    closeSync(fd);
  }
}

/** Collects the changes of one install, in order. */
export class Plan {
  readonly changes: Change[] = [];
  /** Folders that a plan before this one makes. */
  readonly #known: ReadonlySet<string>;
  readonly #folders = new Set<string>();

  constructor(known: Iterable<string> = []) {
    this.#known = new Set(known);
  }

  /** A change that is no file, folder or link. */
  step(change: Change): void {
    this.changes.push(change);
  }

  /** A folder, and those above it. One that is there keeps its owner and mode. */
  folder(path: string, mode = 0o755, owner: () => Owner = () => ROOT): void {
    for (const folder of missing_folders(path)) {
      if (this.#folders.has(folder) || this.#known.has(folder)) continue;
      this.#folders.add(folder);
      const own = folder === path;
      let made = false;
      this.step({
        says: `make the folder ${folder}`,
        apply: () => {
          mkdirSync(folder, 0o700);
          made = true;
          const { uid, gid } = own ? owner() : ROOT;
          chownSync(folder, uid, gid);
          chmodSync(folder, own ? mode : 0o755);
        },
        undo: () => {
          if (made) rmdirSync(folder);
        },
      });
    }
  }

  /** Folders that this plan makes. */
  get folders(): readonly string[] {
    return [...this.#folders];
  }

  /** A file of root's. @returns whether it has to be written */
  file({ path, text, mode }: Target): boolean {
    this.folder(dirname(path));
    const stats = look_at_file(path);
    const same = stats !== undefined && stats.gid === 0 && (stats.mode & 0o7777) === mode;
    if (same && readFileSync(path, "utf8") === text) return false;
    const { fresh, old } = beside(path);
    let placed = false;
    this.step({
      says: `${stats === undefined ? "write" : "rewrite"} ${path} (${octal(mode)})`,
      apply: () => {
        for (const rest of [fresh, old]) rmSync(rest, { force: true });
        if (look_at_file(path) !== undefined) linkSync(path, old);
        write_new(fresh, text, mode);
        renameSync(fresh, path);
        placed = true;
        sync_folder(dirname(path));
      },
      undo: () => {
        if (placed && look_at(old) !== undefined) renameSync(old, path);
        else if (placed) rmSync(path);
        for (const rest of [fresh, old]) rmSync(rest, { force: true });
      },
      finish: () => rmSync(old, { force: true }),
    });
    return true;
  }

  /** Takes a file away that an earlier install has written, if it still is a file of root's. */
  no_file(path: string): void {
    if (look_at_file(path) === undefined) return;
    const { old } = beside(path);
    this.step({
      says: `remove ${path}`,
      apply: () => renameSync(path, old),
      undo: () => {
        if (look_at(old) !== undefined) renameSync(old, path);
      },
      finish: () => rmSync(old),
    });
  }

  /** A symbolic link. @param may_replace tells by where it leads whether a link that is there already may be replaced */
  link(path: string, to: string, may_replace: (to: string) => boolean): boolean {
    this.folder(dirname(path));
    const stats = look_at(path);
    const before = stats?.isSymbolicLink() === true ? readlinkSync(path) : undefined;
    if (before === to) return false;
    if (stats !== undefined && before === undefined)
      throw new Refusal(`${path} is ${kind_of(stats)} where a link of lowport's is wanted; move it away`);
    if (before !== undefined && !may_replace(before))
      throw new Refusal(`${path} is a symbolic link to ${before}, which is not lowport's; move it away`);
    const { fresh } = beside(path);
    let placed = false;
    const point_to = (there: string) => {
      rmSync(fresh, { force: true });
      symlinkSync(there, fresh);
      renameSync(fresh, path);
      placed = true;
      sync_folder(dirname(path));
    };
    this.step({
      says: `link ${path} to ${to}${before === undefined ? "" : ` (was ${before})`}`,
      apply: () => point_to(to),
      undo: () => {
        if (placed && before !== undefined) point_to(before);
        else if (placed) rmSync(path);
        rmSync(fresh, { force: true });
      },
    });
    return true;
  }
}
