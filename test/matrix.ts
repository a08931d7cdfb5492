/**
 * The same build under every Node that it is for: `npm run test:matrix [-- 22 26]`. Each Node comes from the npm package
 * `node` with its headers, into node_modules/.cache/lowport/node-<major>, and works on a copy of the repository there, with
 * the one addon of dist/ and with `posix` built for it. Where posix cannot be built, the tests that do without it run.
 */
import { spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { REPOSITORY } from "./fixtures.js";

const MAJORS = ["20", "22", "24", "26"];
const CACHE = join(REPOSITORY, "node_modules/.cache/lowport");
const POSIX = "posix@4.2.0";
const ADDON = "shared/native/lowport.node";
const ADDON_TESTS = ["native", "native-fds", "poll"].map((name) => `dist/test/shared/${name}.test.js`);
/** Tests that load no posix, directly or through what they import; for where it cannot be built. */
const WITHOUT_POSIX = [
  ...["account", "address", "audit", "audit-file", "binder", "calls", "envelope", "environment", "leases"],
  ...["leases.property", "lockdown", "peer", "trusted-path", "control-socket"],
]
  .map((name) => `dist/test/helper/${name}.test.js`)
  .concat(["chain", "framing", "generated", "validate"].map((name) => `dist/test/shared/${name}.test.js`));

interface Row {
  readonly node: string;
  readonly addon: string;
  readonly posix: string;
  readonly tests: string;
  readonly seconds: string;
  readonly ok: boolean;
}

/**
 * Tests that are about the repository or install from it, by what they are called or import: a copy beside another Node is no place that
 * root installs from, and is not what is bundled. They run under the Node that the repository is built with.
 */
function needs_the_repository(file: string): boolean {
  return (
    /sanitize|client\/package|\/budget|admin\/release/.test(file) ||
    /(real-init|service|service-tests|hostile)\.js"/.test(readFileSync(file, "utf8"))
  );
}

function run(command: string, args: readonly string[], cwd: string, env: NodeJS.ProcessEnv = process.env) {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, env, encoding: "utf8", timeout: 600_000 });
  return { ok: status === 0, text: `${stdout}${stderr}` };
}

/** Installs a package into a folder of its own. The scripts of `allowed` may run, as the project's own package.json has it. */
function install(folder: string, what: string, allowed: object = {}, env?: NodeJS.ProcessEnv): { text: string } {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "package.json"), JSON.stringify({ private: true, allowScripts: allowed }));
  return run("npm", ["install", "--prefix", folder, what, "--no-save", "--no-audit", "--no-fund"], folder, env);
}

/** The folder of a Node that has bin/node and include/node; undefined if it cannot be had. */
function get_node(major: string): string | undefined {
  const modules = join(CACHE, `node-${major}`, "node_modules");
  const platform = `node-linux-${process.arch}`;
  const found = () =>
    [join(modules, "node/node_modules", platform), join(modules, platform), join(modules, "node")].find(
      (folder) => existsSync(join(folder, "bin/node")) && existsSync(join(folder, "include/node/node_api.h")),
    );
  if (found() === undefined) install(join(CACHE, `node-${major}`), `node@${major}`);
  // `node` gets the platform's package by a script; where npm does not let it run (12), the package is asked for by name.
  if (found() === undefined) install(join(CACHE, `node-${major}`), `${platform}@${major}`);
  return found();
}

/** A copy of the repository whose node_modules are links, but for posix, which is built for the Node of `env`. */
function make_copy(major: string, home: string, env: NodeJS.ProcessEnv): { copy: string; posix: boolean } {
  const copy = join(CACHE, `run-${major}`);
  rmSync(copy, { recursive: true, force: true });
  mkdirSync(join(copy, "node_modules"), { recursive: true });
  for (const name of [
    "package.json",
    "package-lock.json",
    "dist",
    "helper",
    "client",
    "shared",
    "test",
    "README.md",
    "SECURITY.md",
  ])
    if (existsSync(join(REPOSITORY, name))) cpSync(join(REPOSITORY, name), join(copy, name), { recursive: true });
  const modules = join(REPOSITORY, "node_modules");
  for (const name of readdirSync(modules))
    if (name !== "posix" && name !== ".cache") symlinkSync(join(modules, name), join(copy, "node_modules", name));
  const built = join(CACHE, `posix-${major}`);
  const loads = () =>
    run(join(home, "bin/node"), ["-e", `require(${JSON.stringify(join(built, "node_modules/posix"))})`], copy).ok;
  if (!loads()) {
    rmSync(built, { recursive: true, force: true });
    const { text } = install(built, POSIX, { [POSIX]: true }, { ...env, npm_config_nodedir: home });
    if (!loads()) {
      console.error(`posix for Node ${major}:\n${text.split("\n").slice(-15).join("\n")}`);
      return { copy, posix: false };
    }
  }
  cpSync(join(built, "node_modules/posix"), join(copy, "node_modules/posix"), { recursive: true });
  return { copy, posix: true };
}

/** What node:test counted, and the names of what failed. */
function test_counts(text: string): string {
  const count = (name: string) => Number(new RegExp(`^# ${name} (\\d+)$`, "m").exec(text)?.[1] ?? Number.NaN);
  return `${count("pass")} pass, ${count("fail")} fail, ${count("skipped")} skipped`;
}

function run_tests(node: string, files: readonly string[], cwd: string, env: NodeJS.ProcessEnv) {
  const { ok, text } = run(node, ["--test", "--test-reporter=tap", "--test-timeout=120000", ...files], cwd, env);
  if (!ok)
    console.error(
      text
        .split("\n")
        .filter((line) => /^\s*not ok/.test(line))
        .join("\n"),
    );
  return { ok, counts: test_counts(text) };
}

function try_major(major: string): Row {
  const started = performance.now();
  const seconds = () => ((performance.now() - started) / 1000).toFixed(0);
  const home = get_node(major);
  if (home === undefined)
    return {
      node: major,
      addon: "-",
      posix: "-",
      tests: "this Node cannot be had here",
      seconds: seconds(),
      ok: false,
    };
  const node = join(home, "bin/node");
  const version = run(node, ["--version"], home).text.trim();
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    PATH: `${dirname(realpathSync(node))}${delimiter}${process.env["PATH"] ?? ""}`,
  };
  env["NODE_TEST_CONTEXT"] = undefined;
  const { copy, posix } = make_copy(major, home, env);
  const addon = run_tests(node, ADDON_TESTS, copy, env);
  const all = readdirSync(join(copy, "dist/test"), { recursive: true })
    .map((name) => `dist/test/${String(name)}`)
    .filter((file) => file.endsWith(".test.js") && !needs_the_repository(join(copy, file)));
  const tests = run_tests(node, posix ? all.toSorted() : WITHOUT_POSIX, copy, env);
  return {
    node: version,
    addon: addon.counts,
    posix: posix ? "built" : "not built",
    tests: tests.counts,
    seconds: seconds(),
    ok: addon.ok && tests.ok && posix,
  };
}

const [, , ...wanted] = process.argv;
const rows = (wanted.length > 0 ? wanted : MAJORS).map((major) => {
  console.error(`Node ${major} ...`);
  return try_major(major);
});
const { text: digest } = run("sha256sum", [join(REPOSITORY, "dist", ADDON)], REPOSITORY);
console.log(`one addon for all: sha256 ${digest.slice(0, 16)}`);
console.table(Object.fromEntries(rows.map(({ node, ...row }) => [node, row])));
process.exitCode = rows.every(({ ok }) => ok) ? 0 : 1;
