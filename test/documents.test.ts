/**
 * Manuals, --help and completions say what the programs take, no more and no less: all are compared with the options in the
 * sources, command by command, and the completions are asked as a shell asks them.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { COMMANDS } from "../helper/admin/commands.js";
import { CONFIG_SCHEMA } from "../shared/config-schema.js";
import { EXIT, LIMITS } from "../shared/protocol.js";
import { DIST, REPOSITORY, temp_folder } from "./fixtures.js";

const read = (path: string) => readFileSync(join(REPOSITORY, path), "utf8");
const sorted = (words: Iterable<string>) => [...new Set(words)].toSorted();

/** The options that a source file declares. */
function declared(...paths: string[]): string[] {
  return sorted(
    paths.flatMap((path) => {
      const table = /const OPTIONS = \{\n([\s\S]*?)\n\} as const;/.exec(read(path))?.[1] ?? "";
      const names = [...table.matchAll(/^ {2}"?([a-z0-9-]+)"?: \{ type:/gm)].map((match) => match[1] as string);
      assert.ok(names.length > 0, path);
      return names;
    }),
  );
}

/** What each command of lowportd takes, from where it is parsed. */
const LOWPORTD: Record<string, string[]> = {
  run: declared("helper/command-line.ts", "helper/admin/daemonize.ts"),
  "check-config": declared("helper/admin/check-config.ts"),
  doctor: declared("helper/admin/doctor.ts"),
  install: declared("helper/admin/install.ts"),
  uninstall: declared("helper/admin/uninstall.ts"),
};
const FOR_ALL = ["help", "version"];

interface Told {
  readonly name: string;
  readonly options: readonly { readonly name: string }[];
  readonly examples: readonly { readonly line: string }[];
}
const lowport = (...args: string[]) =>
  spawnSync(process.execPath, [join(DIST, "client/cli.js"), ...args], { encoding: "utf8" }).stdout;
const TOLD = (JSON.parse(lowport("help", "--json")) as { commands: Told[] }).commands;
/** What each command of lowport takes, from its own table, but for what is for all. */
const LOWPORT: Record<string, string[]> = Object.fromEntries(
  TOLD.map(({ name, options }) => [
    name,
    sorted(options.map((option) => option.name)).filter((option) => !FOR_ALL.includes(option)),
  ]),
);
const LOWPORT_OPTIONS = sorted([...Object.values(LOWPORT).flat(), ...FOR_ALL]);
/** The first words of the commands. */
const LOWPORT_WORDS = sorted([...TOLD.map(({ name }) => name.split(" ")[0] as string), "help"]);
/** `lowport exec` says its version to nobody: that could be the program's. */
const for_all = (command: string) => (command === "exec" ? ["help"] : FOR_ALL);

/** The options of each command in a manual's synopsis. */
function in_synopsis(page: string): Record<string, string[]> {
  const synopsis = /^\.Sh SYNOPSIS\n([\s\S]*?)^\.Sh /m.exec(read(page))?.[1] ?? "";
  const found: Record<string, string[]> = {};
  for (const block of synopsis.split(/^\.Nm\n/m).slice(1)) {
    if (block.startsWith(".Fl")) continue; // --help | --version
    const command = /^\.(?:Op )?Cm ([a-z-]+(?: [a-z]+)?)/m.exec(block)?.[1] ?? "";
    const options = [...block.matchAll(/\bFl \\-([a-z0-9-]+)/g)].map((match) => match[1] as string);
    found[command] = sorted([...(found[command] ?? []), ...options]);
  }
  return found;
}

/** The tags of a manual's lists that begin with a macro: `.It Fl`. */
const tags = (page: string, macro: string) =>
  [...read(page).matchAll(new RegExp(`^\\.It ${macro} (.*)$`, "gm"))].map((match) => match[1] as string);

test("the commands of lowportd are those that are held here", () => {
  assert.deepEqual(sorted(Object.keys(COMMANDS)), sorted(Object.keys(LOWPORTD)));
});

test("lowportd(8): each command with its options, and each option described", () => {
  assert.deepEqual(in_synopsis("helper/man/lowportd.8"), LOWPORTD);
  const described = tags("helper/man/lowportd.8", "Fl").map((text) => text.replace(/^\\-/, "").split(" ")[0] ?? "");
  assert.deepEqual(described, sorted([...Object.values(LOWPORTD).flat(), ...FOR_ALL]), "in alphabetical order");
});

test("lowport(1): each command with its options, and each option described", () => {
  assert.deepEqual(in_synopsis("client/man/lowport.1"), { ...LOWPORT, help: ["json"] });
  const described = tags("client/man/lowport.1", "Fl").map((text) => text.replace(/^\\-/, "").split(" ")[0] ?? "");
  assert.deepEqual(described, LOWPORT_OPTIONS, "in alphabetical order");
  const explained = tags("client/man/lowport.1", "Cm").map((text) => text.replaceAll(" Ar ...", ""));
  assert.deepEqual(sorted(explained), sorted([...Object.keys(LOWPORT), "help"]));
});

test("--help of lowportd: each command with its options", () => {
  const { stdout } = spawnSync(process.execPath, [join(DIST, "helper/main.cjs"), "--help"], { encoding: "utf8" });
  const found: Record<string, string[]> = {};
  for (const [, command = "", rest = ""] of stdout.matchAll(/^ {2}lowportd (?:\[?([a-z-]+)\]?)(.*)$/gm))
    found[command] = sorted([
      ...(found[command] ?? []),
      ...[...rest.matchAll(/--([a-z0-9-]+)/g)].map((match) => match[1] as string),
    ]);
  assert.deepEqual(found, LOWPORTD);
  for (const option of FOR_ALL) assert.ok(stdout.includes(`--${option}`));
});

test("--help of lowport: each command; of each command its options, and examples that it would take", () => {
  const overview = [...lowport("--help").matchAll(/^ {2}lowport (.*?)(?: +[[A-Z].*)? {2}/gm)].map((match) => match[1] as string);
  const others = ["help", "help register"];
  assert.deepEqual(sorted(overview), sorted([...Object.keys(LOWPORT), ...others]));
  for (const { name, examples } of TOLD) {
    const help = lowport("help", ...name.split(" "));
    const [usage = "", rest = ""] = help.split("\n\n");
    assert.deepEqual(sorted([...usage.matchAll(/--([a-z0-9-]+)/g)].map((match) => match[1] as string)), LOWPORT[name], name);
    assert.ok(rest.length > 0);
    assert.ok(examples.length > 0, name);
    for (const { line } of examples) {
      assert.ok(help.includes(`  ${line}\n`));
      assert.match(line, new RegExp(`(^|[ |])lowport ${name}( |$)`));
      const own = (line.split("lowport ")[1] as string).split(/ -- | \| /)[0] as string;
      for (const [, option = ""] of own.matchAll(/--([a-z0-9-]+)/g)) assert.ok(LOWPORT[name]?.includes(option), line);
    }
  }
});

test("exit codes: each manual has its own, and they are those of the program", () => {
  const known = new Set(Object.values(EXIT).map(String));
  for (const [page, absent] of [
    ["helper/man/lowportd.8", EXIT.unreachable],
    ["client/man/lowport.1", EXIT.config],
  ] as const) {
    const told = [...read(page).matchAll(/^\.It ([0-9]+)$/gm)].map((match) => match[1] as string);
    assert.deepEqual(
      told,
      [...known].filter((code) => code !== String(absent)),
      page,
    );
  }
});

test("signals: lowportd(8) has those that the helper acts on", () => {
  const handled = ["helper/signals.ts", "helper/life.ts"].flatMap((file) => read(file).match(/SIG[A-Z]+[0-9]?(?=["\s:])/g) ?? []);
  assert.deepEqual(sorted(tags("helper/man/lowportd.8", "Dv")), sorted(handled));
});

test("lowport.json(5): each member of the schema, and the limits as they are", () => {
  const page = "helper/man/lowport.json.5";
  type Schema = { properties?: Record<string, Schema>; items?: Schema };
  const members = ({ properties = {}, items }: Schema): string[] => [
    ...Object.entries(properties).flatMap(([name, schema]) => [name, ...members(schema)]),
    ...(items === undefined ? [] : members(items)),
  ];
  const told = tags(page, "Va").flatMap((text) => text.split(" , "));
  assert.deepEqual(sorted(told), sorted(members(CONFIG_SCHEMA as Schema)));
  for (const [name, value] of Object.entries(LIMITS))
    assert.match(read(page), new RegExp(`^\\.It Va ${name}\\n(?!\\.It)[^.\\n][^\\n]*\\nDefault: ${value}\\.$`, "m"), name);
});

test("lowportd(8): each check of the doctor's", () => {
  const { stdout } = spawnSync(process.execPath, [join(DIST, "helper/main.cjs"), "doctor", "--json"], { encoding: "utf8" });
  const checks = (JSON.parse(stdout) as { check: string }[]).map(({ check }) => check);
  assert.ok(checks.length > 10);
  const section = /^\.It Cm doctor\n([\s\S]*?)^\.It /m.exec(read("helper/man/lowportd.8"))?.[1] ?? "";
  const told = [...section.matchAll(/^\.Em (.*)$/gm)].flatMap((match) => (match[1] as string).match(/[a-z-]{4,}/g) ?? []);
  assert.deepEqual(sorted(told), sorted(checks));
});

/** Whether a program is here; else the test is skipped, and says so. */
function missing(program: string): string | false {
  const { error } = spawnSync(program, ["--version"], { stdio: "ignore" });
  if (error === undefined) return false;
  const reason = `${program.toUpperCase()} IS NOT INSTALLED: this is not tested (apt-get install ${program})`;
  console.error(`lowport: ${reason}`);
  return reason;
}

const PAGES = ["helper/man/lowportd.8", "helper/man/lowport.json.5", "client/man/lowport.1"];
test("README: its table of speed has each comparison of the bench", () => {
  const folder = join(REPOSITORY, "test/bench");
  const files = readdirSync(folder, { recursive: true }).map(String);
  const sources = files
    .filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts"))
    .map((name) => read(join("test/bench", name)));
  const titles = sorted(
    sources.flatMap((text) => [...text.matchAll(/^ {4}title: "([^"]+)",$/gm)].map(([, title = ""]) => title)),
  );
  assert.equal(titles.length, 11, titles.join("\n"));
  for (const title of titles) assert.ok(read("README.md").includes(`| **${title}**, `), title);
});

test("the manuals are without a fault to mandoc", { skip: missing("mandoc") }, () => {
  for (const page of PAGES) {
    const { stdout, status } = spawnSync("mandoc", ["-T", "lint", "-W", "warning", join(REPOSITORY, page)], { encoding: "utf8" });
    assert.deepEqual([status, stdout], [0, ""], page);
  }
});

const TEMPLATES = [...PAGES, "client/completions/lowport.bash", "client/completions/_lowport", "client/completions/lowport.fish"];
test("nothing in them is taken for a placeholder by install", () => {
  for (const file of TEMPLATES) assert.doesNotMatch(read(file), /@[A-Z_]+@/, file);
});

/** What a shell offers after these words, the last of which is begun. */
type Complete = (...words: string[]) => string[];

/** A lowport that has two leases. */
const programs = temp_folder();
const LEASES = "LEASE             UID  PROTO\n0123456789abcdef  33   tcp\nfedcba9876543210  33   tcp\n";
writeFileSync(join(programs, "lowport"), `#!/bin/sh\n[ "$*" = list ] && printf '%s' '${LEASES}'\n`, { mode: 0o755 });
const env = { ...process.env, HOME: programs, PATH: `${programs}:${process.env["PATH"]}` };

const bash: Complete = (...words) => {
  const script = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _lowport; printf "%s\\n" "${COMPREPLY[@]}"';
  const args = ["--norc", "-c", script, "bash", join(REPOSITORY, "client/completions/lowport.bash"), ...words];
  const { status, stdout, stderr } = spawnSync("bash", args, { encoding: "utf8", env });
  assert.deepEqual([status, stderr], [0, ""], words.join(" "));
  return sorted(stdout.split("\n").filter((word) => word !== ""));
};

const fish: Complete = (...words) => {
  const file = join(REPOSITORY, "client/completions/lowport.fish");
  const args = ["--no-config", "-c", 'source $argv[1]; complete -C "$argv[2]"', file, words.join(" ")];
  const { status, stdout, stderr } = spawnSync("fish", args, { encoding: "utf8", env });
  assert.deepEqual([status, stderr], [0, ""], words.join(" "));
  return sorted(stdout.split("\n").flatMap((line) => line.split("\t")[0] || []));
};

for (const [shell, complete] of [
  ["bash", bash],
  ["fish", fish],
] as const)
  test(`${shell} offers the commands, and of each its options`, { skip: missing(shell) }, () => {
    const options = (names: readonly string[]) => sorted([...names, ...FOR_ALL].map((name) => `--${name}`));
    assert.deepEqual(complete("lowportd", ""), sorted(Object.keys(LOWPORTD)));
    assert.deepEqual(complete("lowport", ""), LOWPORT_WORDS);
    for (const [command, names] of Object.entries(LOWPORTD))
      assert.deepEqual(complete("lowportd", command, "--"), options(names), command);
    assert.deepEqual(complete("lowportd", "--"), options(LOWPORTD["run"] ?? []));
    for (const [command, names] of Object.entries(LOWPORT)) {
      const offered = complete("lowport", ...command.split(" "), "--");
      assert.deepEqual(offered, sorted([...names, ...for_all(command)].map((name) => `--${name}`)), command);
    }
    assert.deepEqual(complete("lowport", "check", ""), ["tcp", "udp"]);
    assert.deepEqual(complete("lowport", "check", "tcp", ""), []);
    assert.deepEqual(complete("lowport", "audit", ""), ["tail", "verify"]);
    assert.deepEqual(complete("lowport", "audit", "tail", "--decision", "de"), ["deny"]);
    assert.ok(complete("lowport", "audit", "tail", "--user", "roo").includes("root"));
    assert.ok(complete("lowport", "audit", "tail", "--lines", "5", "/etc/pass").includes("/etc/passwd"));
    assert.ok(complete("lowport", "help", "").includes("register"));
    assert.ok(complete("lowport", "exec", "--hold", "5", "setpri").includes("setpriv"));
    assert.deepEqual(complete("lowport", "revoke", ""), ["0123456789abcdef", "fedcba9876543210"]);
    assert.deepEqual(complete("lowportd", "install", "--init", ""), ["openrc", "systemd", "sysv"]);
    assert.deepEqual(complete("lowportd", "install", "--init", "op"), ["openrc"]);
    assert.ok(complete("lowportd", "install", "--allow", "roo").some((word) => word.startsWith("root")));
    assert.ok(complete("lowport", "audit", "verify", "/etc/pass").includes("/etc/passwd"));
    assert.ok(complete("lowportd", "check-config", "--config", "/etc/pass").includes("/etc/passwd"));
    assert.deepEqual(complete("lowport", "status", "--wait", ""), []);
  });

test("zsh takes its completions, and they have the commands and options", { skip: missing("zsh") }, () => {
  const file = join(REPOSITORY, "client/completions/_lowport");
  const { status, stderr } = spawnSync("zsh", ["-n", file], { encoding: "utf8" });
  assert.deepEqual([status, stderr], [0, ""]);
});

test("the completions of zsh have the commands and of each the options", () => {
  const text = read("client/completions/_lowport").replaceAll(/\\\n\s*/g, "");
  const shared = { $socket: "socket", $json: "json", $config: "config" };
  const found: Record<string, string[]> = {};
  for (const [, names = "", body = ""] of text.matchAll(/^ {4}((?:lowportd?\/[a-z-]+(?: \| )?)+)\)([\s\S]*?);;$/gm)) {
    const options = [...body.matchAll(/--([a-z0-9-]+)(?:\}')?\[|--([a-z0-9-]+)\}'\[/g)].map(
      (match) => (match[1] ?? match[2]) as string,
    );
    for (const [variable, name] of Object.entries(shared)) if (body.includes(variable)) options.push(name);
    for (const name of names.split(" | ")) found[name] = sorted(options);
  }
  const wanted: [string, string[]][] = [
    ...Object.entries(LOWPORTD).map(([command, names]): [string, string[]] => [`lowportd/${command}`, names]),
    ...Object.entries(LOWPORT).map(([command, names]): [string, string[]] => [`lowport/${command.replace(" ", "-")}`, names]),
    ["lowport/audit", []],
    ["lowport/help", ["json"]],
  ];
  assert.deepEqual(found, Object.fromEntries(wanted));
  for (const [path] of wanted) assert.ok(text.includes(`'${path.replace("audit-", "").split("/")[1]}:`), path);
});
