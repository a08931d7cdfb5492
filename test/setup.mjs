/**
 * Does all the set-up a task needs (dependencies, build), then runs it; so that one command is enough on a fresh machine.
 * Plain JavaScript with nothing but Node, because it runs before anything is installed.
 *
 *   node test/setup.mjs test | test:unit | test:matrix | test:sanitize | coverage | quickstart | bench   [arguments of the task]
 */
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

process.chdir(join(fileURLToPath(import.meta.url), "../.."));

function fail(message) {
  console.error(`lowport: ${message}`);
  process.exit(69);
}

function run(command, args, env = process.env) {
  const { status, error } = spawnSync(command, args, { stdio: "inherit", env });
  if (error) fail(`${command} cannot be run: ${error.message}`);
  return status ?? 1;
}

function must(what, command, args) {
  if (run(command, args) !== 0) fail(`${what} failed: ${command} ${args.join(" ")}`);
}

const has = (command) => spawnSync("sh", ["-c", `command -v ${command}`], { stdio: "ignore" }).status === 0;

/** Programs that the set-up cannot do without, and the packages that bring them. */
function require_tools() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major < 20 || (major === 20 && minor < 19)) fail(`Node ${process.version} is too old; 20.19 or later is needed`);
  if (process.platform !== "linux") fail("the helper and its tests need Linux; elsewhere only the client library works");
  const missing = [
    ["cc", "a C compiler"],
    ["c++", "a C++ compiler"],
    ["make", "make"],
    ["python3", "python3 (node-gyp builds posix with it)"],
    ["unshare", "util-linux"],
    ["setpriv", "util-linux"],
    ["ip", "iproute2"],
  ].filter(([command]) => !has(command));
  if (missing.length > 0)
    fail(
      `missing: ${missing.map(([command, what]) => `${command} (${what})`).join(", ")}. ` +
        "Debian: apt-get install build-essential python3 util-linux iproute2. Alpine: apk add build-base linux-headers python3 util-linux setpriv iproute2",
    );
}

const installed = () => {
  try {
    const wanted = JSON.parse(readFileSync("package-lock.json", "utf8")).packages;
    const present = JSON.parse(readFileSync("node_modules/.package-lock.json", "utf8")).packages;
    return Object.entries(wanted).every(
      ([path, { version, optional }]) => path === "" || optional || present[path]?.version === version,
    );
  } catch {
    return false;
  }
};
const posix_loads = () => spawnSync(process.execPath, ["-e", "require('posix')"], { stdio: "ignore" }).status === 0;

function set_up() {
  require_tools();
  if (!installed()) must("installing the dependencies", "npm", ["ci", "--no-audit", "--no-fund"]);
  if (!posix_loads()) must("building posix for this Node", "npm", ["rebuild", "posix"]);
  if (!posix_loads()) fail("posix was not built; `npm rebuild posix` says why (npm 12 builds it because package.json allows it)");
  try {
    rmSync("dist", { recursive: true, force: true }); // a test whose source is gone must not run on
  } catch (error) {
    fail(`${error.message}; it was made by another user (a run with sudo?): sudo chown -R $(id -un) dist node_modules`);
  }
  must("the build", "npm", ["run", "--silent", "build"]);
}

function tests_in(folder) {
  return readdirSync(folder, { recursive: true })
    .map(String)
    .filter((name) => name.endsWith(".test.js"))
    .toSorted()
    .map((name) => join(folder, name));
}

/** The inits that cannot be installed beside this machine's own; their packages are unpacked in the machines of the tests. */
const INITS = {
  openrc: ["openrc", "librc1", "libeinfo1", "insserv"],
  sysv: ["sysvinit-core", "sysv-rc", "initscripts", "startpar", "insserv"],
};

/** Fetches those packages once. Where that cannot be, the tests that need them say so. */
function fetch_inits() {
  if (process.getuid() !== 0 || !has("apt-get")) return;
  for (const [init, packages] of Object.entries(INITS)) {
    const folder = join("node_modules/.cache/lowport-inits", init);
    if (existsSync(folder)) continue;
    const unfinished = `${folder}.unfinished`;
    rmSync(unfinished, { recursive: true, force: true });
    mkdirSync(unfinished, { recursive: true });
    const download = () => spawnSync("apt-get", ["-q", "download", ...packages], { cwd: unfinished, encoding: "utf8" });
    let fetched = download();
    // A new machine has no lists of packages yet.
    if (fetched.status !== 0 && run("apt-get", ["-q", "update"]) === 0) fetched = download();
    if (fetched.status === 0) renameSync(unfinished, folder);
    else console.error(`lowport: ${packages.join(", ")} cannot be fetched, so nothing is tested on ${init}: ${fetched.stderr}`);
  }
}

/** What single tests need; without it they are skipped. */
const WANTED = [
  ["logrotate", "logrotate"],
  ["mandoc", "mandoc"],
  ["zsh", "zsh"],
  ["fish", "fish"],
  ["systemctl", "systemd"],
  ["update-rc.d", "init-system-helpers"],
  ["dpkg-deb", "dpkg"],
  ["nginx", "nginx-light"],
  ["lighttpd", "lighttpd"],
  ["haproxy", "haproxy"],
  ["dnsmasq", "dnsmasq-base"],
  ["ruby", "ruby ruby-webrick"],
  ["java", "default-jdk-headless"],
  ["go", "golang-go"],
  ["busybox", "busybox-static"],
];

function loud_about_skips() {
  if (process.getuid() !== 0)
    console.error(
      "\nlowport: NOT ROOT: the end-to-end tests are skipped. They need root for namespaces of their own: sudo npm test\n",
    );
  const missing = WANTED.filter(([command]) => !has(command));
  if (missing.length > 0)
    console.error(
      `\nlowport: MISSING: ${missing.map(([command]) => command).join(", ")}: the tests that need them are skipped. ` +
        `Debian: apt-get install ${missing.map(([, name]) => name).join(" ")}\n`,
    );
}

const [task, ...args] = process.argv.slice(2);
const node_test = ["--test", "--test-timeout=120000"];
const all = () => (args.length > 0 ? args : tests_in("dist/test"));
/** Tests that boot an init have a helper of their own in there, which is not seen from here; and the client's are not about it. */
const covers = (file) =>
  !/\/(exec|register|client)[-/]/.test(file) && !/real-init\.js|service\.js/.test(readFileSync(file, "utf8"));
const tasks = {
  test: () => run(process.execPath, [...node_test, ...all()]),
  "test:unit": () => run(process.execPath, [...node_test, ...all().filter((file) => !file.includes("/e2e/"))]),
  "test:matrix": () => run(process.execPath, ["dist/test/matrix.js", ...args]),
  "test:sanitize": () => run("sh", ["test/sanitize.sh", ...args]),
  quickstart: () => run(process.execPath, ["dist/test/quickstart.js", ...args]),
  bench: () => run(process.execPath, ["dist/test/bench/bench.js", ...args]),
  coverage: () => {
    rmSync("coverage", { recursive: true, force: true });
    mkdirSync("coverage/tmp", { recursive: true });
    chmodSync("coverage/tmp", 0o1777); // the helper writes its own as the user it has become
    const what = [
      "--include=dist/helper/**",
      "--exclude=dist/helper/admin/**", // most of it runs as an installed copy, which is not seen here
      "--include=dist/shared/**",
      "--exclude=dist/shared/generated/**",
      "--exclude=dist/shared/generate.js",
      "--exclude=dist/shared/bundle.js",
    ];
    const report = [
      "--temp-directory=coverage/tmp",
      "--reports-dir=coverage",
      "--reporter=text",
      "--check-coverage",
      "--lines=95",
    ];
    return run("node_modules/.bin/c8", [
      ...what,
      ...report,
      "--exclude-after-remap=false",
      "--clean=false",
      process.execPath,
      ...node_test,
      ...all().filter(covers),
    ]);
  },
};
if (!(task in tasks)) fail(`there is no task "${task}"; there are ${Object.keys(tasks).join(", ")}`);
if (!existsSync("package.json")) fail("package.json is not here");
set_up();
if (task === "test" || task === "coverage") {
  fetch_inits();
  loud_about_skips();
}
process.exitCode = tasks[task]();
