/**
 * Promise: any doubt ends the start, with the exit code that says of what kind it is and a line that says what to do: a
 * dangerous environment, a configuration with faults, or one that another than root could have written.
 */
import assert from "node:assert/strict";
import { chmodSync, chownSync, existsSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { EXIT } from "../../shared/protocol.js";
import { enter_box, USERS } from "./box.js";
import { CONFIG, clear_audit_log, run_helper, start_helper, WEB_RULE, write_config } from "./helper-process.js";
import { Peer } from "./peer.js";

await enter_box(import.meta.url);

async function refuses(t: TestContext, code: number, pattern: RegExp, options: Parameters<typeof run_helper>[1] = {}) {
  rmSync("/run/lowport", { recursive: true, force: true });
  clear_audit_log();
  const outcome = await run_helper(t, options);
  assert.equal(outcome.code, code, outcome.stderr);
  assert.match(outcome.stderr, pattern);
  assert.ok(!existsSync("/run/lowport/lowport.sock"), "nothing was begun");
  return outcome;
}

const check = { args: ["check-config", "--config", CONFIG] };

for (const [name, value] of Object.entries({
  NODE_OPTIONS: "--no-warnings",
  NODE_PATH: "/tmp",
  NODE_REDIRECT_WARNINGS: "/run/warnings",
  LD_PRELOAD: "/nonexistent.so",
  LD_LIBRARY_PATH: "/tmp",
  LD_AUDIT: "/nonexistent.so",
  GCONV_PATH: "/tmp",
  OPENSSL_CONF: "/dev/null",
  UV_USE_IO_URING: "1",
}))
  test(`environment: ${name} is refused by name`, async (t) => {
    write_config();
    const options = { env: { [name]: value } };
    await refuses(t, 78, new RegExp(`^lowportd: environment: ${name} .*unset it$`, "m"), options);
  });

test("environment: an empty variable is none, several are all named", async (t) => {
  await start_helper(t, { env: { NODE_OPTIONS: "", LD_PRELOAD: "" } });
  await refuses(t, 78, /NODE_PATH, OPENSSL_CONF/, { env: { NODE_PATH: "/x", OPENSSL_CONF: "/dev/null" } });
});

const rule = (change: object) => ({ rules: [{ ...WEB_RULE, ...change }] });
const FAULTS: [string, Parameters<typeof write_config>[0], string[]][] = [
  ["an unknown member", { config: { sokcet: {} } }, ["/sokcet: "]],
  ["an unknown member of a rule", rule({ port: 80 }), ["/rules/0/port: "]],
  ["a port beyond the last", rule({ ports: [80, 65536] }), ["/rules/0/ports/1: "]],
  ["a range the wrong way round", rule({ ports: ["90-80"] }), ["/rules/0/ports/0: "]],
  ["no port", rule({ ports: [] }), ["/rules/0/ports: "]],
  ["nobody", rule({ users: [], groups: [] }), ["/rules/0/users: "]],
  ["an unknown user", rule({ users: ["alice", "nosuch"] }), ["/rules/0/users/1: "]],
  ["an unknown group", rule({ groups: ["nosuch"] }), ["/rules/0/groups/0: "]],
  ["a user with a NUL", rule({ users: ["root\0x"] }), ["/rules/0/users/0: "]],
  ["a negative uid", rule({ users: [-1] }), ["/rules/0/users/0: "]],
  ["no address", rule({ addresses: ["localhost"] }), ["/rules/0/addresses/0: "]],
  ["a prefix too long", rule({ addresses: ["10.0.0.0/33"] }), ["/rules/0/addresses/0: "]],
  ["a protocol of its own", rule({ protocols: ["sctp"] }), ["/rules/0/protocols/0: "]],
  ["a wrong mode", { config: { socket: { mode: "666" } } }, ["/socket/mode: "]],
  ["an unknown socket group", { config: { socket: { group: "nosuch" } } }, ["/socket/group: "]],
  ["becoming root", { config: { user: "root" } }, ["/user: "]],
  ["becoming nobody known", { config: { user: "nosuch" } }, ["/user: "]],
  ["an unknown operator", { config: { operators: { users: ["nosuch"] } } }, ["/operators/users/0: "]],
  ["a limit of 0", { config: { limits: { connections: 0 } } }, ["/limits/connections: "]],
  ["a durability of its own", { config: { audit: { durability: "maybe" } } }, ["/audit/durability: "]],
  ["two rules of one name", { rules: [WEB_RULE, WEB_RULE] }, ["/rules/1/name: "]],
  [
    "several faults, each told",
    { config: { user: "nosuch" }, rules: [{ ...WEB_RULE, users: ["nosuch"], ports: ["9-8"] }] },
    ["/rules/0/users/0: ", "/rules/0/ports/0: ", "/user: "],
  ],
];
for (const [what, options, pointers] of FAULTS)
  test(`configuration: ${what} is told as file: pointer: message`, async (t) => {
    write_config(options);
    const { stderr } = await refuses(t, 78, /./, check);
    const lines = stderr.trimEnd().split("\n");
    assert.equal(lines.length, pointers.length, stderr);
    for (const pointer of pointers)
      assert.ok(
        lines.some((line) => line.startsWith(`${CONFIG}: ${pointer}`)),
        `${pointer} in ${stderr}`,
      );
    if (pointers.length > 1) assert.equal((await refuses(t, 78, /./)).stderr, stderr, "`run` says the same");
  });

test("configuration: no JSON, no file, and faults in rules.d name the file", async (t) => {
  write_config({ rulesD: { "50-dns.json": { rules: [{ ...WEB_RULE, name: "dns", ports: [0] }] } } });
  await refuses(t, 78, /^\/etc\/lowport\/rules\.d\/50-dns\.json: \/rules\/0\/ports\/0: /m, check);
  writeFileSync("/etc/lowport/rules.d/50-dns.json", "{");
  await refuses(t, 78, /^\/etc\/lowport\/rules\.d\/50-dns\.json: \/: is not JSON/m);
  write_config();
  writeFileSync(CONFIG, "not json");
  await refuses(t, 78, /^\/etc\/lowport\/lowport\.json: \/: is not JSON/m);
  rmSync(CONFIG);
  await refuses(t, 78, /^\/etc\/lowport\/lowport\.json: \/: there is no such file/m);
});

test("configuration: rules of rules.d count, in the order of their files, after those of lowport.json", async (t) => {
  const named = (name: string, ...ports: number[]) => ({ rules: [{ ...WEB_RULE, name, ports }] });
  await start_helper(t, {
    rulesD: { "20-b.json": named("b", 81, 82), "10-a.json": named("a", 80, 81), "30.txt": named("c", 83) },
  });
  const wire = await (await Peer.start(t, USERS.alice)).connect();
  for (const [port, name] of [
    [80, "web"],
    [81, "a"],
    [82, "b"],
    [83, null],
  ])
    assert.equal((await wire.ask("check", { protocol: "tcp", port })).result.rule, name);
});

const DISTRUSTED: [string, () => void][] = [
  ["the file can be written by its group", () => chmodSync(CONFIG, 0o664)],
  ["the file can be written by all", () => chmodSync(CONFIG, 0o646)],
  ["the file is another's", () => chownSync(CONFIG, 2001, 0)],
  ["its folder can be written by all", () => chmodSync("/etc/lowport", 0o777)],
  ["its folder is another's", () => chownSync("/etc/lowport", USERS.lowport.uid, 0)],
  ["a folder above can be written by all", () => chmodSync("/etc", 0o777)],
  ["the file is a link", () => (renameSync(CONFIG, "/etc/lowport/real"), symlinkSync("/etc/lowport/real", CONFIG))],
  ["the folder is a link", () => (renameSync("/etc/lowport", "/etc/real"), symlinkSync("/etc/real", "/etc/lowport"))],
  ["the file is a folder", () => (rmSync(CONFIG), mkdirSync(CONFIG))],
];
for (const [what, spoil] of DISTRUSTED)
  test(`configuration: refused where ${what}`, async (t) => {
    rmSync("/etc/real", { recursive: true, force: true });
    write_config();
    t.after(() => chmodSync("/etc", 0o755));
    spoil();
    const { stderr } = await refuses(t, 78, /^\/etc\/lowport\/lowport\.json: \/: /m);
    if (what.endsWith("a link")) assert.match(stderr, /is a symbolic link/);
  });

test("configuration: a rules file that another can write is refused too", async (t) => {
  write_config({ rulesD: { "a.json": { rules: [] } } });
  chownSync("/etc/lowport/rules.d/a.json", 2001, 2001);
  await refuses(t, 78, /^\/etc\/lowport\/rules\.d\/a\.json: \/: .*owned by uid 2001/m);
});

test("without a configuration each command says what makes one, by install or by hand", async (t) => {
  write_config();
  rmSync("/etc/lowport", { recursive: true });
  for (const [args, by_hand] of [
    [["check-config"], true],
    [["run", "--daemon"], true],
    [["run"], false],
  ] as const) {
    const { code, stderr } = await run_helper(t, { args });
    assert.equal(code, EXIT.config, args.join(" "));
    assert.match(stderr, /lowport\.json: .*there is no such file; `sudo lowportd install` writes one/);
    assert.equal(/^ {2}useradd --system .*\n {2}install -d .*\n {2}mkdir -p .*"rules": \[\]/m.test(stderr), by_hand, stderr);
  }
  const { stderr } = await run_helper(t, { args: ["check-config", "--config", "/etc/lowport/other.json"] });
  assert.doesNotMatch(stderr, /useradd/, "that is for the default one");
});

test("check-config says ok, changes nothing, and needs no root", async (t) => {
  write_config();
  const as_bob = ["setpriv", "--reuid=2002", "--regid=2002", "--clear-groups"];
  for (const wrapper of [[], as_bob]) {
    const { code, stdout } = await run_helper(t, { ...check, wrapper });
    assert.equal(code, 0);
    assert.equal(stdout, `${CONFIG}: ok, 1 rule\n`);
  }
  const { stderr } = await refuses(t, 77, /must be started as root/, { wrapper: as_bob });
  assert.equal(stderr.trim().split("\n").length, 1);
});

test("a wrong command line exits 64; help and version exit 0", async (t) => {
  write_config();
  for (const args of [["--nosuch"], ["run", "--port", "80"], ["frobnicate"], ["run", "more"], ["run", "--config"]])
    await refuses(t, 64, /lowportd/, { args });
  for (const args of [["--help"], ["run", "--help"], ["--version"]]) assert.equal((await run_helper(t, { args })).code, 0);
});
