/**
 * What everybody may read of the configuration: who serves, where, and for which group. It is not validated and decides nothing; it is
 * for what people are told. Believed only if the file is root's alone, since a process may name any file as its own.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync } from "node:fs";
import { DEFAULT_CONFIG, DEFAULT_SOCKET } from "./protocol.js";

/** Bytes; a configuration has a fraction of it. */
const MAX_BYTES = 1 << 20;

export interface PlainConfig {
  /** Names, or numbers of ids. */
  readonly user: string;
  readonly group: string;
  readonly socket: string;
  readonly audit: string;
}

const DEFAULTS: PlainConfig = {
  user: "lowport",
  group: "lowport",
  socket: DEFAULT_SOCKET,
  audit: "/var/log/lowport/audit.log",
};

const as_text = (value: unknown, otherwise: string) =>
  typeof value === "string" || typeof value === "number" ? String(value) : otherwise;

/**
 * @param file what is missing there, or is not root's alone, is not believed, and the usual configuration is read
 * @returns the defaults where there is none; undefined if this user may not read it
 */
export function read_plain_config(file = DEFAULT_CONFIG): PlainConfig | undefined {
  const otherwise = () => (file === DEFAULT_CONFIG ? DEFAULTS : read_plain_config());
  let said: Record<"user" | "socket" | "audit", unknown>;
  try {
    const fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const stats = fstatSync(fd);
      if (!stats.isFile() || stats.uid !== 0 || (stats.mode & 0o022) !== 0 || stats.size > MAX_BYTES) return otherwise();
      said = Object(JSON.parse(readFileSync(fd, "utf8")));
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EACCES" ? undefined : otherwise();
  }
  const socket = Object(said.socket) as Record<string, unknown>;
  return {
    user: as_text(said.user, DEFAULTS.user),
    group: as_text(socket["group"], DEFAULTS.group),
    socket: as_text(socket["path"], DEFAULTS.socket),
    audit: as_text((Object(said.audit) as Record<string, unknown>)["path"], DEFAULTS.audit),
  };
}
