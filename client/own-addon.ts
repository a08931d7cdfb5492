/**
 * The client's own addon, and what else is found beside this file, which is here for that: the library and `lowport exec` are each
 * put together to one file in this folder (shared/bundle.ts). The helper never loads it.
 */
import type { ExecNative } from "./exec/native.js";

const beside = (name: string) => `${import.meta.dirname}/${name}`;

/** What runs beside a program of `lowport exec`. */
export const supervisor = () => beside("supervisor.cjs");

let loaded: ExecNative | undefined;

/** The addon, loaded at its first use. @throws Error */
export function own_addon(): ExecNative {
  if (loaded !== undefined) return loaded;
  const addon = { exports: {} };
  process.dlopen(addon, beside("native/exec.node"));
  loaded = addon.exports as ExecNative;
  return loaded;
}
