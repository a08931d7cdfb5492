/**
 * A release: a folder below /usr/local/lib/lowport with the program and a Node that will not change under it, named by what is in
 * it, so that the same content is installed once. It is copied aside, tried, and only then `current` is pointed to it.
 */
import { createHash } from "node:crypto";
import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { NODE_FLAGS } from "../../shared/node-flags.js";
import { VERSION } from "../../shared/protocol.js";
import type { Change } from "./changes.js";
import { must_run } from "./programs.js";
import { LIBRARY, type Source } from "./sources.js";
import { look_at, missing_folders, Refusal, sync_folder } from "./standing.js";

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;
/** What a finished release is called; what is being made begins with a dot. */
const NAME = /^[0-9]+\.[0-9]+\.[0-9]+[^/]*-[0-9a-f]{12}$/;
const UNFINISHED = /^\.(new|old)-/;

const sha256 = (bytes: string | Buffer) => createHash("sha256").update(bytes).digest("hex");

/** The text of manifest.json: every file with mode and hash. */
export function manifest_of(sources: readonly Source[]): string {
  const files = sources.map(({ path, mode, sha256: hash }) => ({ path, mode: mode.toString(8).padStart(4, "0"), sha256: hash }));
  return `${JSON.stringify({ version: VERSION, files }, undefined, 1)}\n`;
}

/** What a release of these files is called. */
export function name_release(sources: readonly Source[]): string {
  return `${VERSION}-${sha256(manifest_of(sources)).slice(0, 12)}`;
}

/** Whether `folder` holds these files as they should be, and no others. */
export function is_intact(folder: string, sources: readonly Source[]): boolean {
  const wanted = new Map(sources.map((source) => [source.path, source]));
  let found = 0;
  for (const entry of readdirSync(folder, { recursive: true })) {
    const path = String(entry);
    const stats = look_at(join(folder, path));
    if (stats === undefined || stats.uid !== 0 || (stats.mode & 0o022) !== 0) return false;
    if (stats.isDirectory()) continue;
    if (path === "manifest.json" && stats.isFile()) continue;
    const source = wanted.get(path);
    if (source === undefined || !stats.isFile() || (stats.mode & 0o7777) !== source.mode) return false;
    if (sha256(readFileSync(join(folder, path))) !== source.sha256) return false;
    found++;
  }
  return found === wanted.size;
}

function write_file(path: string, bytes: Buffer, mode: number): void {
  const fd = openSync(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  try {
    writeFileSync(fd, bytes);
    fchownSync(fd, 0, 0);
    fchmodSync(fd, mode);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function make_folder(folder: string): void {
  if (look_at(folder) !== undefined) return;
  make_folder(dirname(folder));
  mkdirSync(folder, 0o700);
  chmodSync(folder, 0o755); // whatever the umask is
}

function copy_files(folder: string, sources: readonly Source[]): void {
  for (const { path, mode, from, sha256: hash } of sources) {
    const bytes = typeof from === "string" ? readFileSync(from) : from;
    if (sha256(bytes) !== hash) throw new Error(`${path} has changed while it was copied; try again`);
    make_folder(dirname(join(folder, path)));
    write_file(join(folder, path), bytes, mode);
  }
  write_file(join(folder, "manifest.json"), Buffer.from(manifest_of(sources)), 0o644);
}

/** The change that copies the files into a release of that name; undefined if it is there and whole. */
export function copy_release(name: string, sources: readonly Source[], library = LIBRARY): Change | undefined {
  const [folder, fresh, old] = [join(library, name), join(library, `.new-${name}`), join(library, `.old-${name}`)];
  missing_folders(folder);
  const there = look_at(folder) !== undefined;
  if (there && is_intact(folder, sources)) return undefined;
  let placed = false;
  return {
    says: there ? `replace the damaged ${folder}` : `copy the program and its Node to ${folder}`,
    apply: () => {
      make_folder(fresh);
      copy_files(fresh, sources);
      if (there) renameSync(folder, old);
      renameSync(fresh, folder);
      placed = true;
      sync_folder(library);
    },
    undo: () => {
      rmSync(fresh, { recursive: true, force: true });
      if (placed) rmSync(folder, { recursive: true });
      if (look_at(old) !== undefined) renameSync(old, folder);
    },
    finish: () => rmSync(old, { recursive: true, force: true }),
  };
}

/** The change that only tries whether a release runs here: that Node starts, and that posix and the addon load. */
export function try_release(name: string, config: string): Change {
  const folder = join(LIBRARY, name);
  return {
    says: `try ${folder}`,
    apply: async () => {
      await must_run(
        join(folder, "node"),
        ...NODE_FLAGS,
        join(folder, "dist/helper/main.cjs"),
        "check-config",
        "--config",
        config,
      );
    },
  };
}

/** The releases that are installed. */
export function list_releases(library = LIBRARY): string[] {
  return look_at(library) === undefined ? [] : readdirSync(library).filter((name) => NAME.test(name));
}

/** The change that removes old releases, when all else is done. */
export function remove_releases(names: readonly string[]): Change {
  return {
    says: `remove ${names.map((name) => join(LIBRARY, name)).join(", ")}`,
    apply: () => undefined,
    finish: () => {
      for (const name of names) rmSync(join(LIBRARY, name), { recursive: true });
    },
  };
}

/** Removes what an install that was killed has left. */
export function remove_unfinished(library = LIBRARY): void {
  if (look_at(library) === undefined) return;
  if (missing_folders(library).length > 0) throw new Refusal(`${library} is no folder`);
  for (const name of readdirSync(library).filter((entry) => UNFINISHED.test(entry)))
    rmSync(join(library, name), { recursive: true });
}
