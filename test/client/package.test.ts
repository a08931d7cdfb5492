/**
 * Promise: the package works as users get it: packed, installed from the tarball, imported and required, with its types, and
 * both commands. npm builds posix on the way, so this takes as long as that does.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

const REPOSITORY = fileURLToPath(new URL("../../../", import.meta.url)).replace(/\/$/, "");
const { name, version } = JSON.parse(readFileSync(join(REPOSITORY, "package.json"), "utf8"));
const folder = mkdtempSync(join(tmpdir(), "lowport-package-"));
after(() => rmSync(folder, { recursive: true }));

function run(command: string, args: readonly string[], cwd = folder) {
  const { npm_config_prefix: _, ...env } = process.env;
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, env, encoding: "utf8" });
  if (error !== undefined) throw error;
  return { status, stdout, stderr };
}

function must(command: string, args: readonly string[], cwd?: string): string {
  const { status, stdout, stderr } = run(command, args, cwd);
  assert.equal(status, 0, `${command} ${args.join(" ")}\n${stdout}${stderr}`);
  return stdout;
}

function program(file: string, text: string): string {
  writeFileSync(join(folder, file), text);
  return must(process.execPath, [file]);
}

// Without its scripts, for they would build dist anew under the feet of the other tests.
const [packed] = JSON.parse(must("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", folder], REPOSITORY));
const files: string[] = packed.files.map(({ path }: { path: string }) => path);

// npm leaves the installation out where it can have neither its cache nor the registry.
writeFileSync(join(folder, "package.json"), '{ "name": "consumer", "private": true, "allowScripts": { "posix": true } }');
const flags = ["--prefer-offline", "--no-audit", "--no-fund"];
const installed = run("npm", ["install", "--prefix", folder, ...flags, join(folder, packed.filename)]);
const unreachable = /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENOTCACHED/.exec(installed.stderr)?.[0];
const skip = unreachable === undefined ? false : `npm cannot reach its registry (${unreachable})`;

test("the package holds what it runs with and nothing else", () => {
  for (const needed of [
    "package.json",
    "README.md",
    "LICENSE",
    "dist/client/index.js",
    "dist/client/index.d.ts",
    "dist/client/cli.js",
    "dist/client/lowport.sh",
    "dist/client/note-inherited.sh",
    "dist/client/node-flags.sh",
    "dist/client/exec.cjs",
    "dist/client/supervisor.cjs",
    "dist/client/native/exec.node",
    "dist/helper/main.cjs",
    "dist/shared/native/lowport.node",
    "dist/shared/generated/params.js",
    "shared/generated/config.schema.json",
    "shared/generated/openrpc.json",
    "helper/service/lowport.service",
    "helper/man/lowportd.8",
    "helper/man/lowport.json.5",
    "helper/DAEMON.md",
    "client/man/lowport.1",
    "client/completions/lowport.bash",
    "client/completions/_lowport",
    "client/completions/lowport.fish",
  ])
    assert.ok(files.includes(needed), `${needed} is missing in ${files.join(" ")}`);
  const strange = files.filter((file) => /(^|\/)(test|node_modules|coverage|\.ci)\/|\.test\.|binding\.gyp/.test(file));
  assert.deepEqual(strange, []);
  const { scripts } = JSON.parse(readFileSync(join(REPOSITORY, "package.json"), "utf8"));
  for (const script of ["preinstall", "install", "postinstall"]) assert.ok(!(script in scripts), script);
});

test("it installs from its tarball", { skip }, () => {
  assert.equal(installed.status, 0, installed.stderr);
  assert.ok(readdirSync(join(folder, "node_modules")).includes(name));
});

const SERVE = `(async () => {
  const server = require("node:http").createServer();
  const { via } = await listen(server, { port: 0 });
  console.log(via, server.listening, typeof Client, typeof bind, typeof bindUdp, typeof connect, LowportError.name);
  server.close();
})();`;
const SAID = "direct true function function function function LowportError\n";
const NAMES = "{ bind, bindUdp, Client, connect, listen, LowportError }";

test("it can be imported", { skip }, () => {
  const text = `import ${NAMES} from "lowport"; import { createRequire } from "node:module";
    const require = createRequire(import.meta.url); ${SERVE}`;
  assert.equal(program("imports.mjs", text), SAID);
});

test("it can be required", { skip }, () => {
  writeFileSync(join(folder, "requires.cjs"), `const ${NAMES} = require("lowport"); ${SERVE}`);
  assert.equal(must(process.execPath, ["requires.cjs"]), SAID);
});

for (const flag of ["--import", "--require"])
  test(`it can be preloaded with ${flag}`, { skip }, () => {
    const text = `require("node:http").createServer().listen(0, function () { console.log(this.listening); this.close(); });
      console.log(Symbol.for("lowport.register") in globalThis);`;
    writeFileSync(join(folder, "preloaded.cjs"), text);
    const { stdout, stderr } = run(process.execPath, [flag, "lowport/register", "preloaded.cjs"]);
    assert.deepEqual([stdout, stderr], ["true\ntrue\n", ""]);
  });

test("nothing but what it exports can be imported", { skip }, () => {
  const text = `const results = [];
    for (const path of ["lowport/dist/helper/main.cjs", "lowport/dist/shared/native.js"])
      results.push(await import(path).catch(({ code }) => code));
    const { default: schema } = await import("lowport/config.schema.json", { with: { type: "json" } });
    console.log(JSON.stringify([...results, schema.type]));`;
  writeFileSync(join(folder, "exports.mjs"), text);
  const said = JSON.parse(must(process.execPath, ["--no-warnings", "exports.mjs"]));
  assert.deepEqual(said, ["ERR_PACKAGE_PATH_NOT_EXPORTED", "ERR_PACKAGE_PATH_NOT_EXPORTED", "object"]);
});

test("its types compile in a strict consumer, and refuse what is wrong", { skip }, () => {
  symlinkSync(join(REPOSITORY, "node_modules/@types"), join(folder, "node_modules/@types"));
  const head = `import dgram from "node:dgram"; import http from "node:http"; import http2 from "node:http2";
    import { type BoundSocket, bind, bindUdp, type Client, connect, listen, LowportError } from "lowport"; import "lowport/register";\n`;
  const right = `${head}
    const { via, lease }: { via: "inherited" | "direct" | "helper"; lease?: BoundSocket } = await listen(http.createServer(), { port: 80 });
    await listen(http2.createSecureServer(), { port: 443, host: "::", hold: 30, signal: AbortSignal.timeout(5) });
    await bindUdp(dgram.createSocket("udp4"), { port: 53, label: "dns" });
    const { fd, release }: BoundSocket = await bind({ protocol: "tcp", port: 80, share: true, timeout: 1 });
    const client: Client = await connect({ socket: "/run/x" });
    client.on("lost", ({ lease: id }, error) => console.log(id.length, error.code, error instanceof LowportError));
    const { allowed, reason } = await client.call("check", { protocol: "udp", port: 53 });
    console.log(via, lease?.resumed, fd, release, allowed === true, reason.length, (await client.list())[0]?.uid);`;
  const wrong = [
    'await listen(http.createServer(), { port: "80" });',
    "await bind({ port: 80 });",
    'await bind({ protocol: "sctp", port: 80 });',
    "await bindUdp(http.createServer(), { port: 53 });",
    '(await connect()).call("nonsense", {});',
    '(await connect()).on("nonsense", () => undefined);',
  ];
  const wrong_lines = wrong.map((line) => `// @ts-expect-error\n${line}`).join("\n");
  writeFileSync(join(folder, "consumer.mts"), `${right}\n${wrong_lines}\n`);
  const options = ["--strict", "--module", "nodenext", "--moduleResolution", "nodenext", "--target", "es2022"];
  must(process.execPath, [
    join(REPOSITORY, "node_modules/typescript/bin/tsc"),
    ...["--noEmit", ...options, "--types", "node", "consumer.mts"],
  ]);
});

for (const command of ["lowport", "lowportd"])
  test(`npx ${command} --version`, { skip }, () => {
    assert.equal(must("npx", ["--no-install", command, "--version"]), `${command} ${version}\n`);
  });

test("installed as README says, both commands are there, and the helper has all that it loads", { skip }, () => {
  const prefix = join(folder, "global");
  const tarball = join(folder, packed.filename);
  must("npm", ["install", "--global", "--prefix", prefix, "--allow-scripts=posix", ...flags, tarball]);
  for (const command of ["lowport", "lowportd"])
    assert.equal(must(join(prefix, "bin", command), ["--version"]), `${command} ${version}\n`);
  const { status, stderr } = run(join(prefix, "bin/lowportd"), ["check-config", "--config", join(folder, "none.json")]);
  assert.equal(status, 78, stderr);
  assert.match(stderr, /none\.json/);
});
