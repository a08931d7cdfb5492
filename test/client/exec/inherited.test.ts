/** What the command's script notes before Node starts, read back; and what is inferred where it has noted nothing. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { infer_descriptors, NOTED, own_environment, own_words, parse_note } from "../../../client/exec/inherited.js";
import { REPOSITORY } from "../../fixtures.js";

test("a note", () => {
  assert.deepEqual(parse_note("8000000000001001:0000000100000800:1024:3,17,:2,:PWD,_,"), {
    ignored: [0x1001, -0x80000000],
    blocked: [0x800, 1],
    softLimit: 1024,
    descriptors: [3, 17],
    nonblocking: [2],
    added: ["PWD", "_"],
  });
  assert.equal(parse_note("0000000000000000:0000000000000000:unlimited:::")?.softLimit, -1);
});

test("SIGQUIT alone is what some shells ignore for themselves", () => {
  const ignored = (mask: string) => parse_note(`${mask}:0000000000000000:1:::`)?.ignored[0];
  assert.deepEqual([ignored("0000000000000004"), ignored("0000000000000006")], [0, 6]);
});

for (const note of [
  undefined,
  "",
  "x",
  "0:0:1:::",
  "0000000000000000:0000000000000000:-1:::",
  "0000000000000000:0000000000000000:1:3::",
  "0000000000000000:0000000000000000:1::3,:",
])
  test(`no note: ${note}`, () => assert.equal(parse_note(note), undefined));

test("inferred: what does not close at exec was inherited, and what does is unless it is of a kind that Node makes", () => {
  const file = (fd: number, link: string, closeOnExec = true) => ({ fd, link, closeOnExec });
  const files = [
    file(0, "/dev/null"),
    file(3, "/etc/passwd"),
    file(4, "anon_inode:[eventpoll]"),
    file(5, "pipe:[1]"),
    file(6, "pipe:[1]"),
    file(7, "pipe:[2]"),
    file(8, "socket:[3]"),
    file(9, "anon_inode:[eventfd]"),
    file(20, "/dev/null"),
    file(40, "anon_inode:[eventpoll]", false),
    file(41, "/dev/null", false),
  ];
  assert.deepEqual(infer_descriptors(files), [0, 3, 7, 8, 40, 41]);
});

const sh = process.platform === "linux" ? false : "Linux only";
for (const shell of ["sh", "dash", "bash", "busybox"])
  test(`the script, by ${shell}`, { skip: sh }, (t) => {
    const words = shell === "busybox" ? ["busybox", "ash"] : [shell];
    const script = `. ${join(REPOSITORY, "client/note-inherited.sh")}; echo "$${NOTED}"`;
    const note = (setup: string, env: Record<string, string>, word = "exec") => {
      const args = ["-c", `${setup} exec "$@"`, "sh", ...words, "-c", script, "lowport", word];
      const { stdout, error, status } = spawnSync("sh", args, { encoding: "utf8", env: { PATH: "/usr/bin:/bin", ...env } });
      return error !== undefined || status === 127 ? undefined : stdout.trim();
    };
    const plain = note("ulimit -Sn 99; exec 7</dev/null;", { PWD: "/", ODD: "OLDPWD=\n_=" });
    if (plain === undefined) return t.skip(`${shell} is not here`);
    const parsed = parse_note(plain);
    assert.deepEqual([parsed?.softLimit, parsed?.ignored, parsed?.descriptors.includes(7)], [99, [0, 0], true], plain);
    const added = (names: readonly string[] | undefined) => names?.filter((name) => name !== "PWD");
    assert.deepEqual(added(parsed?.added), ["SHLVL"], plain);
    assert.deepEqual(parse_note(note("trap '' HUP INT QUIT PIPE;", {}))?.ignored, [0x1007, 0]);
    assert.equal(note("", {}, "list"), "", "for no other command");
  });

test("this process's own words and environment, as bytes", () => {
  const script = `
    import { own_environment, own_words } from ${JSON.stringify(new URL("../../../client/exec/inherited.js", import.meta.url).href)};
    process.stdout.write(own_words(2).toString("latin1") + "|" + own_environment(["GONE"], { NEW: "n", OLD: "o" }).toString("latin1"), "latin1");`;
  const args = ["--input-type=module", "-e", script, "first", "", "caf\u00e9 au lait"];
  const env = { GONE: "1", OLD: "1", A: "=\n", [NOTED]: "x" };
  const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: "latin1", env });
  assert.equal(stdout, "\0caf\u00c3\u00a9 au lait\0|A==\n\0NEW=n\0OLD=o\0", stderr);
  assert.ok(own_words(1).length > 0 && own_environment([]).length > 0);
});
