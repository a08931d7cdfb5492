/**
 * The main job, on real root, real users and a real port: a helper that gives up root, an app as `nobody` on port 80, a
 * second user who is denied, and both in the audit log. Everything it makes is in one folder, which it removes.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { request } from "node:http";
import { createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { NODE_FLAGS } from "../shared/node-flags.js";

/** Ids that no user has: the helper's own, and the group that may talk to it. */
const HELPER_UID = 64_079;
const SOCKET_GID = 64_080;
const CLEAN = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", LANG: "C.UTF-8" };
const REPOSITORY = fileURLToPath(new URL("../..", import.meta.url));

const say = (text: string) => process.stdout.write(`${text}\n`);
const indent = (text: string) => text.trimEnd().replace(/^/gm, "      ");

if (process.getuid?.() !== 0) {
  say("quickstart: this shows a root helper at work, so it needs root: sudo npm run quickstart");
  process.exit(77);
}

const folder = mkdtempSync("/run/lowport-quickstart.");
const children: ChildProcess[] = [];

function clean_up(): void {
  for (const child of children) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
}
process.on("exit", clean_up);
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => process.exit(130));

function user_id(name: string): number {
  const line = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .find((entry) => entry.startsWith(`${name}:`));
  if (line === undefined) throw new Error(`this machine has no user ${name}`);
  return Number(line.split(":")[2]);
}

/** Starts a program and waits for a line that `wanted` accepts, or for its end. @returns all its lines until then */
function start(command: string, args: string[], wanted: RegExp): Promise<{ child: ChildProcess; lines: string[] }> {
  const child = spawn(command, args, { env: CLEAN, cwd: "/", stdio: ["ignore", "pipe", "pipe"] });
  children.push(child);
  const lines: string[] = [];
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", () => resolve({ child, lines }));
    for (const stream of [child.stdout, child.stderr])
      createInterface(stream).on("line", (line) => {
        lines.push(line);
        if (wanted.test(line)) resolve({ child, lines });
      });
  });
}

function is_free(port: number): Promise<boolean> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once("error", () => resolve(false));
    server.listen(port, () => server.close(() => resolve(true)));
  });
}

function get(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = request({ host: "127.0.0.1", port, agent: false }, (response) => {
      let body = "";
      response
        .setEncoding("utf8")
        .on("data", (text: string) => (body += text))
        .on("end", () => resolve(`${response.statusCode} ${body.trim()}`));
    });
    asked.on("error", reject).end();
  });
}

/** A node that every user can run: this one, or a copy of it where it is in a private folder. */
function node_for_all(): string {
  const probe = spawnSync("setpriv", ["--reuid", String(user_id("nobody")), "--clear-groups", process.execPath, "--version"], {
    env: CLEAN,
    cwd: "/",
  });
  if (probe.status === 0) return process.execPath;
  copyFileSync(process.execPath, join(folder, "node"));
  chmodSync(join(folder, "node"), 0o755);
  return join(folder, "node");
}

const APP = (port: number) => `import http from "node:http";
import { listen } from "./program/client/index.js";

const server = http.createServer((request, response) => response.end("hello from uid " + process.getuid() + "\\n"));
try {
  const { via } = await listen(server, { port: ${port} });
  console.log("serving on port " + server.address().port + " as uid " + process.getuid() + " (" + via + ")");
} catch (error) {
  console.log(error.message);
  process.exitCode = 1;
}
`;

async function main(): Promise<void> {
  let port = 80;
  while (!(await is_free(port))) port++;
  if (port !== 80) say(`port 80 is taken on this machine: this uses port ${port} instead\n`);

  chmodSync(folder, 0o755);
  const config = join(folder, "lowport.json");
  const log = join(folder, "audit/audit.log");
  const socket = join(folder, "control/lowport.sock");
  mkdirSync(join(folder, "audit"));
  chownSync(join(folder, "audit"), HELPER_UID, HELPER_UID);
  const rules = [{ name: "web", users: ["nobody"], ports: [port] }];
  const settings = {
    socket: { path: socket, group: SOCKET_GID },
    user: HELPER_UID,
    audit: { path: log, syslog: false },
    rules,
  };
  writeFileSync(config, `${JSON.stringify(settings, undefined, 2)}\n`);
  // The app's own copy of the library, because this checkout may be in a folder that nobody else can enter.
  for (const part of ["client", "shared"])
    cpSync(join(REPOSITORY, "dist", part), join(folder, "program", part), { recursive: true });
  writeFileSync(join(folder, "program/package.json"), '{ "type": "module" }\n');
  writeFileSync(join(folder, "app.mjs"), APP(port));
  const node = node_for_all();

  say(`1. root starts the helper, with one rule: ${JSON.stringify(rules[0])}`);
  const helper = await start(
    process.execPath,
    [...NODE_FLAGS, join(REPOSITORY, "dist/helper/main.cjs"), "--config", config],
    /"msg":"ready"/,
  );
  if (helper.child.exitCode !== null) throw new Error(`the helper did not start:\n${helper.lines.join("\n")}`);
  const tasks = `/proc/${helper.child.pid}/task`;
  const privileges = new Set(
    readdirSync(tasks).map((tid) => {
      const status = readFileSync(`${tasks}/${tid}/status`, "utf8");
      return ["Uid", "CapEff", "NoNewPrivs", "Seccomp"]
        .map((field) => `${field} ${new RegExp(`^${field}:\\s+(\\S+)`, "m").exec(status)?.[1]}`)
        .join(", ");
    }),
  );
  say(
    `   it has given up root: its threads have\n${indent([...privileges].join("\n"))}\n   (CapEff 400 is CAP_NET_BIND_SERVICE, on the one thread that binds)\n`,
  );

  const as = (user: string) => [
    "--reuid",
    String(user_id(user)),
    "--regid",
    String(user_id(user)),
    "--groups",
    String(SOCKET_GID),
  ];
  const run_app = (user: string) =>
    start("setpriv", [...as(user), "env", `LOWPORT_SOCKET=${socket}`, node, join(folder, "app.mjs")], /serving/);
  say("2. nobody starts an app: await listen(server, { port: " + port + " })");
  const app = await run_app("nobody");
  if (app.child.exitCode !== null) throw new Error(`the app did not start:\n${app.lines.join("\n")}`);
  say(`${indent(app.lines.join("\n"))}\n      GET http://127.0.0.1:${port}/ -> ${await get(port)}\n`);

  say("3. daemon, another user, starts the same app");
  const denied = await run_app("daemon");
  if (denied.child.exitCode !== 1) throw new Error(`it was not denied:\n${denied.lines.join("\n")}`);
  say(`${indent(denied.lines.join("\n"))}\n`);

  say("4. the helper stops; the app has its socket and goes on");
  const stopped = new Promise((resolve) => helper.child.once("close", resolve));
  helper.child.kill("SIGTERM");
  await stopped;
  say(`      GET http://127.0.0.1:${port}/ -> ${await get(port)}\n`);

  say("5. all of it is in the audit log");
  say(indent(readFileSync(log, "utf8")));
  const verified = spawnSync(process.execPath, [join(REPOSITORY, "dist/client/cli.js"), "audit", "verify", log], {
    env: CLEAN,
    encoding: "utf8",
  });
  say(`   lowport audit verify\n${indent(verified.stdout + verified.stderr)}`);
  if (verified.status !== 0) throw new Error("the audit log does not verify");
  say("\nThat was real. README.md says how to use it.");
}

try {
  await main();
} catch (error) {
  say(`\nquickstart failed: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
process.exit();
