/** A line of the audit log as a record: which ones are wanted, and one line for people about each. */
import { count, type Paint, printable } from "../command/terminal.js";
import type { Users } from "../command/users.js";

/** As shared/PROTOCOL.md has them, in its order. */
export const EVENTS = ["call", "connect", "disconnect", "start", "stop", "reload", "lease-end", "rotate"] as const;
export const DECISIONS = ["allow", "deny", "invalid", "error"] as const;

/** A record as far as it is looked at: its members may be anything, for the file may have been edited. */
export type Entry = { readonly [member: string]: unknown };

const is_object = (value: unknown): value is Entry => typeof value === "object" && value !== null && !Array.isArray(value);

/** @returns undefined if the line is no record */
export function read_entry(line: Buffer): Entry | undefined {
  try {
    const value: unknown = JSON.parse(line.toString());
    return is_object(value) && typeof value["seq"] === "number" ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Which records are wanted: those that have all of it. */
export interface Filter {
  readonly uid: number | undefined;
  readonly method: string | undefined;
  readonly decision: string | undefined;
  readonly port: number | undefined;
  readonly event: string | undefined;
}

const uid_of = ({ peer }: Entry) => (is_object(peer) ? peer["uid"] : undefined);

/** The port that it is about: asked for, or that of a lease that has ended, which its reason begins with ("tcp [::]:80: "). */
function port_of({ params, event, reason }: Entry): unknown {
  if (is_object(params)) return params["port"];
  const ended = event === "lease-end" && typeof reason === "string" ? /^(?:tcp|udp) \S+:(\d+): /.exec(reason)?.[1] : undefined;
  return ended === undefined ? undefined : Number(ended);
}

export function is_wanted(entry: Entry, { uid, method, decision, port, event }: Filter): boolean {
  return (
    (uid === undefined || uid_of(entry) === uid) &&
    (method === undefined || entry["method"] === method) &&
    (decision === undefined || entry["decision"] === decision) &&
    (port === undefined || port_of(entry) === port) &&
    (event === undefined || entry["event"] === event)
  );
}

const as_text = (value: unknown): string =>
  value === undefined ? "" : printable(typeof value === "string" ? value : JSON.stringify(value));

/** What was asked: "bind tcp [::]:443". */
function describe_call({ method, params }: Entry): string {
  const name = as_text(method) || "call";
  if (!is_object(params)) return name;
  const { protocol, address = "::", port, lease } = params;
  if (lease !== undefined) return `${name} ${as_text(lease)}`;
  if (port === undefined) return name;
  const host = as_text(address);
  return `${name} ${as_text(protocol)} ${host.includes(":") ? `[${host}]` : host}:${as_text(port)}`;
}

const COLOURS: Readonly<Record<string, Parameters<Paint>[0]>> = { allow: "green", deny: "red", invalid: "yellow", error: "red" };
/** Columns: who, what, decision. */
const WIDTHS = [20, 24, 7] as const;

/** A record as a line: when, who, what, decision, and by which rule or why. */
export function describe_entry(entry: Entry, paint: Paint, users: Users): string {
  const uid = uid_of(entry);
  const decision = as_text(entry["decision"]);
  const label = is_object(entry["params"]) ? as_text(entry["params"]["label"]) : "";
  const why = [
    entry["rule"] === undefined ? "" : `rule "${as_text(entry["rule"])}"`,
    entry["lease"] === undefined ? "" : `lease ${as_text(entry["lease"])}`,
    label === "" ? "" : `label ${label}`,
    [as_text(entry["code"]), as_text(entry["reason"])].filter((text) => text !== "").join(": "),
  ];
  const cells = [
    paint("dim", as_text(entry["time"])),
    (typeof uid === "number" ? users.describe(uid) : "-").padEnd(WIDTHS[0]),
    (entry["event"] === "call" ? describe_call(entry) : as_text(entry["event"])).padEnd(WIDTHS[1]),
    paint(COLOURS[decision] ?? "reset", decision === "" ? "-".padEnd(WIDTHS[2]) : decision.padEnd(WIDTHS[2])),
    why.filter((text) => text !== "").join(", "),
  ];
  return cells.join("  ").trimEnd();
}

/**
 * A line that is no record: its length and not a word of it, for the file may be any, put there while it was read, and whoever
 * may run this as root need not be allowed to read it.
 */
export const describe_other = (line: Buffer, paint: Paint): string =>
  `${paint("red", "no audit record")} (${count(line.length, "byte")})`;
