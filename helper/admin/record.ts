/**
 * installed.json: what install wrote outside of the release. It is written before the rest, so that an install which is killed can
 * be finished by the next one, or removed by uninstall. `lowportd doctor` compares it with what is there.
 */
import { createHash } from "node:crypto";
import { closeSync, constants, fstatSync, openSync, rmSync } from "node:fs";
import { join } from "node:path";
import { message_of } from "../../shared/errors.js";
import { errno_name, native } from "../../shared/native.js";
import { read_trusted } from "../trusted-path.js";
import type { Made } from "./account.js";
import { LIBRARY } from "./sources.js";
import { look_at, look_at_file, Refusal } from "./standing.js";
import { type Target } from "./targets.js";

export const RECORD = join(LIBRARY, "installed.json");
const LOCK = "/run/lowport-install.lock";

/** A file as it was written; its owner is root. */
export interface Installed {
  readonly path: string;
  readonly mode: string;
  readonly uid: number;
  readonly gid: number;
  readonly sha256: string;
}

export interface InstallRecord {
  readonly version: string;
  readonly release: string;
  readonly init: string;
  /** Where the helper listens. */
  readonly socket: string;
  /** Units, scripts and the like: they should stay as they are. */
  readonly files: readonly Installed[];
  readonly links: readonly { readonly path: string; readonly to: string }[];
  /** Folders that were made, which uninstall removes if they are empty. */
  readonly folders: readonly string[];
  readonly account: Made;
}

/** How a file is recorded. */
export function note_file({ path, text, mode }: Target): Installed {
  const sha256 = createHash("sha256").update(text).digest("hex");
  return { path, mode: mode.toString(8).padStart(4, "0"), uid: 0, gid: 0, sha256 };
}

/** What the last install has recorded; undefined if there was none. @throws Refusal if it cannot be believed */
export function read_record(): InstallRecord | undefined {
  if (look_at_file(RECORD) === undefined) return undefined;
  try {
    const record = JSON.parse(read_trusted(RECORD)) as InstallRecord;
    const lists = [record.files, record.links, record.folders];
    if (!lists.every(Array.isArray) || typeof record.init !== "string") throw new Error("is no record of an install");
    return record;
  } catch (error) {
    throw new Refusal(`${RECORD}: ${message_of(error)}; move it away`);
  }
}

/** Two installs at once would undo each other's work. The lock is held until the process ends, and is no longer there then. */
export function lock_installs(): void {
  const { O_CREAT, O_NOFOLLOW, O_NONBLOCK, O_RDWR } = constants;
  const fd = openSync(LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o600);
  const result = native().lockFile(fd);
  if (result === 0 && fstatSync(fd).ino === look_at(LOCK)?.ino) {
    process.on("exit", () => rmSync(LOCK, { force: true }));
    return;
  }
  closeSync(fd);
  const why = result < 0 && errno_name(result) !== "EAGAIN" ? errno_name(result) : "another install or uninstall is running";
  throw new Error(`${LOCK}: ${why}; try again when it has ended`);
}
