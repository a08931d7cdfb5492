/**
 * `--allow USER|%GROUP:PROTO:PORTS[@ADDRESS]`: from words to a rule, and into the file of rules that install keeps
 * (rules.d/50-install.json). Rules are added and never removed; one that is there already is not added again.
 */
import { createHash } from "node:crypto";
import type { RuleEntry } from "../../shared/config-schema.js";
import { read_rule } from "../rules.js";

/** A rule as it is written; what is left out has its default. */
export type Allowed = Pick<RuleEntry, "name" | "protocols" | "ports"> &
  Partial<Pick<RuleEntry, "users" | "groups" | "addresses">>;

const FORM = /^(%?)([^:%]+):([^:]+):([^:@]+)(?:@(.+))?$/;
const PROTOCOLS: ReadonlySet<string> = new Set(["tcp", "udp", "tcp+udp"]);
/** Of a rule's name. */
const MAX_NAME = 64;

/** What cannot be a name is replaced; what is too long is cut, and told apart by its hash. */
function name_from(words: string): string {
  const name = words
    .replaceAll("%", "group-")
    .replaceAll("@", "-at-")
    .replaceAll(/[^A-Za-z0-9._-]+/g, "-");
  if (name.length <= MAX_NAME) return name;
  return `${name.slice(0, MAX_NAME - 9)}-${createHash("sha256").update(words).digest("hex").slice(0, 8)}`;
}

/** @throws Error that says what is wrong with the words */
export function parse_allow(words: string): Allowed {
  const [, group, who, protocols = "", ports = "", address] = FORM.exec(words) ?? [];
  if (who === undefined)
    throw new Error(
      `--allow ${words}: wanted is USER:PROTO:PORTS[@ADDRESS] or %GROUP:PROTO:PORTS[@ADDRESS], as in www-data:tcp:80,443`,
    );
  const fail = (why: string): never => {
    throw new Error(`--allow ${words}: ${why}`);
  };
  if (!PROTOCOLS.has(protocols)) fail(`"${protocols}" is no protocol; write tcp, udp or tcp+udp`);
  for (const port of ports.split(",")) {
    const [first = "", last = first, ...more] = port.split("-");
    if (more.length > 0 || ![first, last].every((number) => /^[0-9]{1,5}$/.test(number)))
      fail(`"${port}" is no port; write numbers and ranges, as in 80,443,8000-8099`);
    if (Number(first) > Number(last)) fail(`the range ${port} goes down; write ${last}-${first}`);
  }
  const rule: Allowed = {
    name: name_from(words),
    ...(group === "%" ? { groups: [who] } : { users: [who] }),
    protocols: protocols.split("+") as Allowed["protocols"],
    ports: ports.split(",").map((port) => (/^[0-9]{1,5}$/.test(port) ? Number(port) : port)),
    ...(address === undefined ? {} : { addresses: [address] }),
  };
  if (address !== undefined && !/^[0-9A-Fa-f:.]{2,45}(\/[0-9]{1,3})?$/.test(address))
    fail(`"${address}" is neither an IP address nor a network such as 192.0.2.0/24`);
  const faults: string[] = [];
  const defaults = { users: [], groups: [], addresses: ["*"], maxSockets: 1, maxHoldSeconds: 0, reusePort: false, share: true };
  read_rule({ ...defaults, ...rule }, (_, message) => faults.push(message));
  if (faults.length > 0) fail(faults.join("; "));
  return rule;
}

/** Who, what and where of a rule, whatever its name and limits; undefined if it is no rule. */
function meaning_of(rule: unknown): string | undefined {
  const { users = [], groups = [], protocols = ["tcp"], addresses = ["*"], ports } = (rule ?? {}) as Partial<RuleEntry>;
  const lists = [users, groups, protocols, addresses, ports];
  return lists.every(Array.isArray) ? JSON.stringify(lists.map((list) => (list as unknown[]).map(String).toSorted())) : undefined;
}

/**
 * The rules of the file with those that are wanted and not yet in it.
 * @param taken names of rules in other files, which a new one must not have
 */
export function add_rules(present: readonly unknown[], wanted: readonly Allowed[], taken: ReadonlySet<string>): unknown[] {
  const names = new Set([...taken, ...present.map((rule) => String((rule as Partial<RuleEntry> | null)?.name))]);
  const meanings = new Set(present.map(meaning_of));
  const rules = [...present];
  for (const rule of wanted) {
    const meaning = meaning_of(rule);
    if (meanings.has(meaning)) continue;
    let { name } = rule;
    for (let n = 2; names.has(name); n++) name = `${rule.name.slice(0, MAX_NAME - 4)}-${n}`;
    names.add(name);
    meanings.add(meaning);
    rules.push({ ...rule, name });
  }
  return rules;
}
