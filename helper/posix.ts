/**
 * The only file that imports `posix` (node-posix): names, resource limits, syslog. Its setters of ids are never used: they
 * take undefined or NaN for root. It converts arguments without checking them, so each is checked here. Name look-ups
 * block, so they are done at start, on SIGHUP and for an operator's `check`, never for another peer.
 */
import { createRequire } from "node:module";
import { message_of } from "../shared/errors.js";

type Posix = typeof import("posix");
export type User = { name: string; uid: number; gid: number };
export type Group = { gid: number; members: readonly string[] };

const MAX_ID = 4_294_967_293;
/** Descriptors wanted: more than all default limits together can use. */
const WANTED_DESCRIPTORS = 65_536;

let loaded: Posix | undefined;

/** @throws Error that says how to build it */
export function load_posix(): Posix {
  try {
    loaded ??= createRequire(import.meta.filename)("posix") as Posix;
    return loaded;
  } catch (error) {
    throw new Error(
      `the posix package cannot be loaded (${message_of(error).split("\n")[0]}). It is built for one major version of Node, ` +
        `and this is ${process.version}; npm 12 builds it only if told so. ` +
        "Build it with `npm rebuild posix` in the folder of lowport; an installed lowport: `npm install --global --allow-scripts=posix` again.",
      { cause: error },
    );
  }
}

/** A principal as a number, if it is one: 33 and "33" are. */
export function as_id(principal: string | number): number | undefined {
  const id = typeof principal === "number" ? principal : /^[0-9]{1,10}$/.test(principal) ? Number(principal) : undefined;
  return id !== undefined && Number.isInteger(id) && id >= 0 && id <= MAX_ID ? id : undefined;
}

function look_up<T>(call: (key: string | number) => T, principal: string | number): T | undefined {
  const key = as_id(principal) ?? principal;
  if (typeof key === "number" && as_id(key) === undefined) return undefined;
  if (typeof key === "string" && !/^[A-Za-z_][A-Za-z0-9_.@-]*\$?$/.test(key)) return undefined;
  try {
    return call(key);
  } catch {
    return undefined; // "not found" has no code of its own
  }
}

/** @returns undefined if there is no user of that name; a number always is a user, its own group if it has no entry */
export function find_user(principal: string | number): User | undefined {
  const entry = look_up(load_posix().getpwnam, principal);
  if (entry !== undefined) return { name: entry.name, uid: entry.uid, gid: entry.gid };
  const id = as_id(principal);
  return id === undefined ? undefined : { name: String(id), uid: id, gid: id };
}

/** @returns undefined if there is no group of that name; a number always is a group */
export function find_group(principal: string | number): Group | undefined {
  const entry = look_up(load_posix().getgrnam, principal);
  if (entry !== undefined) return { gid: entry.gid, members: entry.members };
  const id = as_id(principal);
  return id === undefined ? undefined : { gid: id, members: [] };
}

/** No core files, which would hold what the process knows; and as many descriptors as the hard limit lets us have. */
export function set_resource_limits(): void {
  const posix = load_posix();
  posix.setrlimit("core", { soft: 0, hard: 0 });
  const { hard } = posix.getrlimit("nofile");
  const descriptors = hard === null ? WANTED_DESCRIPTORS : Math.min(hard, WANTED_DESCRIPTORS);
  posix.setrlimit("nofile", { soft: descriptors, hard: descriptors });
}

/** A line to syslog: "daemon" is the service's own, "authpriv" may go to a place that the helper cannot edit. */
export function send_to_syslog(facility: "daemon" | "authpriv", message: string): void {
  const posix = load_posix();
  posix.openlog("lowportd", { pid: true }, facility);
  posix.syslog("notice", message);
}
