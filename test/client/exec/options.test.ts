/** The words after `lowport exec`: where its own end and the program's begin. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { BadWords, parse_exec, parse_listen } from "../../../client/exec/options.js";

const plain = { hold: 0, socket: undefined, sockets: [] };

for (const [args, expected] of [
  [["true"], { ...plain, command: ["true"] }],
  [["--", "true", "--hold", "3"], { ...plain, command: ["true", "--hold", "3"] }],
  [["prog", "--", "--help"], { ...plain, command: ["prog", "--", "--help"] }],
  [["--hold", "30", "--socket=/x", "--", "--odd"], { ...plain, hold: 30, socket: "/x", command: ["--odd"] }],
  [["--hold=0", "x"], { ...plain, command: ["x"] }],
  [["--", ""], { ...plain, command: [""] }],
] as const)
  test(`exec ${args.join(" ")}`, () => assert.deepEqual(parse_exec(args), expected));

for (const args of [
  ["--listen", "tcp:80", "--listen", "tcp:80@::", "program"],
  [],
  ["--"],
  ["--hold", "3"],
  ["--hold", "-1", "x"],
  ["--hold", "3601", "x"],
  ["--hold", "1e3", "x"],
  ["-x", "y"],
])
  test(`exec ${args.join(" ")}: refused`, () => assert.throws(() => parse_exec(args), BadWords));

test("help is asked for before the program's name, and not after", () => {
  assert.equal(parse_exec(["--hold", "3", "-h", "x"]), "help");
  assert.notEqual(parse_exec(["x", "--help"]), "help");
});

for (const [text, protocol, port, address] of [
  ["tcp:80", "tcp", 80, "::"],
  ["udp:53@192.0.2.1", "udp", 53, "192.0.2.1"],
  ["tcp:443@::1", "tcp", 443, "::1"],
  ["tcp:443@[::1]", "tcp", 443, "::1"],
  ["tcp:65535", "tcp", 65_535, "::"],
] as const)
  test(`--listen ${text}`, () => assert.deepEqual(parse_listen(text), { protocol, port, address }));

for (const text of [
  "",
  "80",
  "tcp",
  "tcp:",
  "tcp:0",
  "tcp:65536",
  "sctp:80",
  "tcp:80@",
  "tcp:80@localhost",
  "tcp:80@1.2.3",
  "tcp: 80",
])
  test(`--listen "${text}": refused`, () => assert.throws(() => parse_listen(text), BadWords));
