/**
 * What the root process may be made of (helper/admin is not in it: it is what an admin runs by hand): how much code, who imports whom, and which file may do what. Small is the
 * security feature, so its size is held here.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { test } from "node:test";
import { bundle_helper } from "../shared/bundle.js";
import { VERSION } from "../shared/protocol.js";
import { REPOSITORY } from "./fixtures.js";

const MAX_TYPESCRIPT_LINES = 2920;
const MAX_C_LINES = 700;
/** Of the client's own addon, which runs with the user's rights. */
const MAX_CLIENT_C_LINES = 620;
const MAX_FILE_LINES = 250;

const read = (file: string) => readFileSync(join(REPOSITORY, file), "utf8");
const count_lines = (text: string) => text.split("\n").length - 1;

/** All sources of a folder; generated ones are none. */
function sources(folder: string): string[] {
  if (!existsSync(join(REPOSITORY, folder))) return [];
  return readdirSync(join(REPOSITORY, folder), { recursive: true })
    .map((name) => join(folder, String(name)))
    .filter((file) => /\.(ts|mts|c|h)$/.test(file) && !file.startsWith("shared/generated/"));
}

/** The text with comments blanked out, so that what they say is not taken for code; strings stay. */
function without_comments(text: string): string {
  const token = /("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`)|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g;
  return text.replace(token, (whole, string?: string) => string ?? whole.replace(/[^\n]/g, " "));
}
const code_lines = (text: string) =>
  without_comments(text)
    .split("\n")
    .filter((line) => line.trim() !== "").length;

/** What a file imports: static, dynamic and required, types too. */
function imports_of(file: string): { types: boolean; from: string }[] {
  const text = without_comments(read(file));
  const found = [
    ...text.matchAll(/^\s*(?:import|export)\s+(type\s)?(?:[\w*{][^;"']*?\sfrom\s+)?["']([^"']+)["']/gm),
    ...text.matchAll(/()\b(?:import|require|createRequire\([^)]*\))\s*\(\s*["']([^"']+)["']/g),
  ];
  return found.map(([, type, from = ""]) => ({ types: type !== undefined && type !== "", from }));
}

/** The file of this repository that a relative import means: the source of what is compiled. */
function source_of(importer: string, from: string): string {
  const path = relative(REPOSITORY, resolve(REPOSITORY, dirname(importer), from));
  const source = path.replace(/\.js$/, ".ts");
  return existsSync(join(REPOSITORY, source)) ? source : path;
}

/**
 * All that is loaded when `file` is started: what it imports statically, from the compiled files, so that what only gives
 * types is not in it; and the packages that it imports in any way.
 */
function loaded_by(file: string): { own: Set<string>; packages: Set<string> } {
  const own = new Set<string>();
  const packages = new Set<string>();
  const visit = (path: string) => {
    if (own.has(path)) return;
    own.add(path);
    const compiled = join(REPOSITORY, "dist", path.replace(/\.ts$/, ".js"));
    const text = without_comments(readFileSync(compiled, "utf8"));
    for (const [, one, two] of text.matchAll(
      /^\s*(?:import|export)\s+(?:[\w*{][^;"']*?\sfrom\s+)?["']([^"']+)["']|\b(?:import|require|createRequire\([^)]*\))\s*\(\s*["']([^"']+)["']/gm,
    )) {
      if (one?.startsWith(".") === true) visit(source_of(path, one));
      else if (two?.startsWith(".") !== true) packages.add(one ?? two ?? "");
      else if (!two.endsWith("native/lowport.node")) assert.deepEqual([path, two], ["helper/main.ts", "./admin/commands.js"]);
    }
  };
  visit(file);
  return { own, packages };
}

const daemon = loaded_by("helper/main.ts");
const daemon_sources = [...daemon.own].filter((file) => !file.startsWith("shared/generated/")).toSorted();

test("what the daemon loads is within its budget", (t) => {
  const sizes = daemon_sources.map((file) => [file, code_lines(read(file))] as const);
  const total = sizes.reduce((sum, [, lines]) => sum + lines, 0);
  t.diagnostic(`the daemon loads ${sizes.length} files, ${total} lines of code of ${MAX_TYPESCRIPT_LINES}`);
  for (const [file, lines] of sizes) t.diagnostic(`${String(lines).padStart(4)} ${file}`);
  assert.ok(
    daemon_sources.every((file) => /^(helper|shared)\/[a-z-]+\.ts$/.test(file)),
    daemon_sources.join(" "),
  );
  assert.ok(daemon_sources.length > 15, "the imports are followed");
  assert.ok(total <= MAX_TYPESCRIPT_LINES, `${total} lines`);
});

const { outputFiles, metafile } = await bundle_helper();
const BUNDLE = "dist/helper/main.cjs";

test("the bundle that ships is, byte for byte, what these sources and packages give", () => {
  const [shipped] = outputFiles.filter(({ path }) => path.endsWith(BUNDLE));
  assert.equal(shipped?.text, read(BUNDLE));
});

test("the bundle holds what the daemon loads, and of packages no more than is listed here", () => {
  const parts = Object.keys(metafile.outputs[BUNDLE]?.inputs ?? {});
  const own = parts.filter((file) => file.startsWith("dist/")).map((file) => source_of("", file.slice("dist/".length)));
  assert.deepEqual(new Set(own), new Set([...daemon.own].filter((file) => own.includes(file))), "what it has is counted above");
  const without_code = [...daemon.own].filter((file) => !own.includes(file) && !/\.(json|node)$/.test(file));
  assert.deepEqual(without_code, []);
  const packages = parts
    .map((file) => /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)?.[1])
    .filter((name) => name !== undefined);
  const expected = ["json-rpc-2.0", "on-exit-leak-free", "pino", "pino-std-serializers", "quick-format-unescaped"];
  assert.deepEqual([...new Set(packages)].toSorted(), expected);
  const builtins = ["buffer", "diagnostics_channel", "events", "fs", "module", "os", "path", "util"];
  const imports = new Set(metafile.outputs[BUNDLE]?.imports.map(({ path }) => path));
  assert.deepEqual([...imports].toSorted(), ["./admin/commands.js", ...builtins.map((name) => `node:${name}`)]);
});

test("the bundle makes no code of strings", () => {
  const that_takes_it_away = /^\/\/ dist\/helper\/no-eval\.js\n.*?(?=^\/\/ )/ms;
  assert.match(read(BUNDLE), that_takes_it_away);
  assert.doesNotMatch(
    without_comments(read(BUNDLE).replace(that_takes_it_away, "")),
    /\beval\b|\bFunction\s*\(|\.constructor\s*\(/,
  );
});

test("the addon is within its budget", (t) => {
  const total = sources("shared/native").reduce((sum, file) => sum + count_lines(read(file)), 0);
  t.diagnostic(`the addon has ${total} lines of C of ${MAX_C_LINES}`);
  assert.ok(total > 0 && total <= MAX_C_LINES, `${total} lines`);
});

test("no code of the helper's own can take a descriptor", () => {
  const all = [...sources("shared/native"), ...daemon.own];
  assert.ok(all.length > 40);
  for (const file of all) assert.doesNotMatch(read(file), /\brecvm+sg\b|receiveWithFds/, file);
});

test("the client's own addon is within its budget, and the daemon never loads it", (t) => {
  const total = sources("client/native").reduce((sum, file) => sum + count_lines(read(file)), 0);
  t.diagnostic(`the client's addon has ${total} lines of C of ${MAX_CLIENT_C_LINES}`);
  assert.ok(total > 0 && total <= MAX_CLIENT_C_LINES, `${total} lines`);
  assert.deepEqual(that_say(/exec\.node/), ["client/own-addon.ts"]);
  assert.ok(![...daemon.own].some((file) => file.startsWith("client/")));
});

test(`no file is longer than ${MAX_FILE_LINES} lines`, () => {
  const files = ["helper", "client", "shared"].flatMap(sources).map((file) => [count_lines(read(file)), file] as const);
  assert.deepEqual(
    files.filter(([lines]) => lines > MAX_FILE_LINES),
    [],
  );
});

test("imports go in one direction: client and helper never see each other, shared sees neither", () => {
  for (const [folder, forbidden] of [
    ["client", /^helper\//],
    ["helper", /^client\//],
    ["shared", /^(helper|client)\//],
  ] as const)
    for (const file of sources(folder).filter((name) => name.endsWith(".ts")))
      for (const { from } of imports_of(file))
        if (from.startsWith(".")) assert.doesNotMatch(source_of(file, from), forbidden, `${file} imports ${from}`);
});

test("only helper/posix.ts imports posix", () => {
  const importers = ["helper", "client", "shared"]
    .flatMap(sources)
    .filter((file) => file.endsWith(".ts") && /["']posix["']/.test(without_comments(read(file))));
  assert.deepEqual(importers, ["helper/posix.ts"]);
});

/** The files whose code (not whose comments) matches. */
const that_say = (pattern: RegExp) =>
  ["helper", "client", "shared"]
    .flatMap(sources)
    .filter((file) => pattern.test(without_comments(read(file))))
    .toSorted();

test("only helper/binder.ts binds sockets", () => {
  assert.deepEqual(that_say(/bindSocket/), ["helper/binder.ts", "shared/native.ts", "shared/native/addon.c"]);
  assert.doesNotMatch(without_comments(read("shared/native.ts")).replace(/interface Native \{[\s\S]*?\n\}/, ""), /bindSocket/);
  const c_files = that_say(/\bbind\s*\(/).filter((file) => file.endsWith(".c"));
  assert.deepEqual(c_files, ["shared/native/socket.c", "shared/native/unix.c"], "the latter binds Unix sockets alone");
});

test("only helper/lockdown.ts and native/lockdown.c change ids, capabilities or system call filters", () => {
  const changes =
    /\b(set(res|re|e|fs)?[ug]id|setgroups|initgroups|capset|prctl|seccomp|cap_set_\w+|lockDown)\b(?=\s*[(?]|"|')|SYS_(capset|seccomp|setuid|setgid)/;
  const allowed = new Set([
    "helper/lockdown.ts",
    "helper/io-uring.ts", // by forbidIoUring of native/lockdown.c
    "shared/native.ts",
    "shared/native/addon.c",
    "shared/native/lockdown.c",
    "client/native/launch.c", // a filter for the program that an unprivileged user starts
  ]);
  const files = that_say(changes);
  assert.deepEqual(
    files.filter((file) => !allowed.has(file)),
    [],
  );
  for (const file of ["helper/lockdown.ts", "shared/native/lockdown.c"]) assert.ok(files.includes(file), file);
  const only_declared = without_comments(read("shared/native.ts")).match(new RegExp(changes, "g"));
  assert.deepEqual(only_declared, ["lockDown"], "shared/native.ts declares it and does not call it");
});

test("the daemon loads json-rpc-2.0, pino and posix, and no other package", () => {
  const packages = [...daemon.packages].filter((name) => !name.startsWith("node:")).toSorted();
  assert.deepEqual(packages, ["json-rpc-2.0", "pino", "posix"]);
  const { dependencies } = JSON.parse(read("package.json")) as { dependencies: Record<string, string> };
  for (const name of packages) assert.ok(name in dependencies, name);
});

test("the daemon runs no programs, opens no servers of Node's and starts no workers", () => {
  const banned = /^(node:)?(child_process|cluster|worker_threads|https?|http2|tls|dgram|inspector|repl|vm|wasi)(\/|$)/;
  for (const file of new Set([...daemon.own, ...sources("helper").filter((name) => !name.startsWith("helper/admin/"))]))
    for (const { from } of imports_of(file)) {
      assert.doesNotMatch(from, banned, `${file} imports ${from}`);
    }
  const by_name = that_say(/getBuiltinModule/).filter((file) => daemon.own.has(file));
  const loaded_late = by_name.map((file) => [file, ...(read(file).match(/(?<=getBuiltinModule\().*?\)\S*/g) ?? [])]);
  // Of the inspector only whether it is open.
  assert.deepEqual(loaded_late, [
    ["helper/address.ts", '"node:net");'],
    ["helper/signals.ts", '"node:inspector").url()'],
    ["helper/young.ts", `"node:v8").setFlagsFromString("--semi-space-growth-factor=1`],
    ["shared/chain.ts", '"node:crypto").hash("sha256",'],
  ]);
  const created = that_say(/\bcreateServer\b|\bnew Server\(|\.listen\(|\bWorker\b/).filter((file) => daemon.own.has(file));
  const makes_ours = new Set(["helper/main.ts", "helper/warm-up.ts"]);
  const own_class = created.filter((file) => !(makes_ours.has(file) && !/createServer|\.listen\(|Worker/.test(read(file))));
  assert.deepEqual(own_class, []);
});

test("the version is one, and dependencies are exact", () => {
  const { version, dependencies, devDependencies } = JSON.parse(read("package.json")) as {
    version: string;
    dependencies: Record<string, string>;
    devDependencies: Record<string, string>;
  };
  assert.equal(version, VERSION);
  for (const [name, wanted] of Object.entries({ ...dependencies, ...devDependencies }))
    assert.match(wanted, /^\d+\.\d+\.\d+$/, name);
});

test("this test sees what it looks for", () => {
  assert.equal(code_lines('// no\n\n/* no\n no */\nconst yes = "// a string";\n  /** no */ const two = 1;\n'), 2);
  assert.equal(without_comments('a("/*") // b\n'), 'a("/*")     \n');
  assert.ok(imports_of("helper/calls.ts").some(({ from }) => from === "json-rpc-2.0"));
  assert.ok(imports_of("helper/calls.ts").some(({ types, from }) => types && from === "pino"));
  assert.ok(imports_of("helper/posix.ts").some(({ from }) => from === "posix"));
});
