/** The words after `lowport exec`: its own options, then the program's name and words, which are none of its business. */
import { isDeepStrictEqual } from "node:util";
import { MAX_HOLD_SECONDS } from "../../shared/protocol.js";
import type { ToListen } from "./messages.js";

export interface ExecOptions {
  readonly hold: number;
  readonly socket: string | undefined;
  readonly sockets: readonly ToListen[];
  /** The program's name and words. */
  readonly command: readonly string[];
}

/** What is wrong with the words, for people. */
export class BadWords extends Error {}

/** Loaded when it is needed, which few programs wait for. */
const is_ip = (text: string) => process.getBuiltinModule("node:net").isIP(text);

/** @throws BadWords */
export function parse_listen(text: string): ToListen {
  const [, protocol, digits, at] = /^(tcp|udp):(\d{1,5})(?:@(.+))?$/.exec(text) ?? [];
  const port = Number(digits);
  const address = at?.replace(/^\[(.*)\]$/, "$1") ?? "::";
  if (protocol === undefined || port < 1 || port > 65_535 || is_ip(address) === 0)
    throw new BadWords(`--listen takes tcp:PORT or udp:PORT, and @ with an IP address if not all are meant, not "${text}"`);
  return { protocol: protocol as "tcp" | "udp", address, port };
}

/** @param args what follows `lowport exec`. @returns "help" if that is asked for. @throws BadWords */
export function parse_exec(args: readonly string[]): ExecOptions | "help" {
  let hold = 0;
  let socket: string | undefined;
  const sockets: ToListen[] = [];
  for (let i = 0; i < args.length; i++) {
    const word = args[i] as string;
    if (word === "--help" || word === "-h") return "help";
    const rest = word === "--" ? i + 1 : i;
    if (word === "--" || !word.startsWith("-")) {
      if (rest === args.length) break;
      return { hold, socket, sockets, command: args.slice(rest) };
    }
    const [, name = word, inline] = /^(--[a-z]+)=(.*)$/s.exec(word) ?? [];
    const value = inline ?? args[++i];
    if (!["--hold", "--socket", "--listen"].includes(name)) throw new BadWords(`there is no option ${name} of exec`);
    if (value === undefined) throw new BadWords(`${name} needs a value`);
    if (name === "--listen") {
      const wanted = parse_listen(value);
      if (sockets.some((other) => isDeepStrictEqual(other, wanted))) throw new BadWords(`--listen ${value} is there twice`);
      sockets.push(wanted);
    } else if (name === "--socket") socket = value;
    else if (/^\d{1,5}$/.test(value) && Number(value) <= MAX_HOLD_SECONDS) hold = Number(value);
    else throw new BadWords(`--hold must be a number of seconds up to ${MAX_HOLD_SECONDS}`);
  }
  throw new BadWords("which program?");
}
