/** Whose path it is: every component root's alone. Needs root, because only root can make such files and others' too. */
import assert from "node:assert/strict";
import { chmodSync, chownSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { distrust, read_trusted } from "../../helper/trusted-path.js";
import { count_descriptors, is_root, needs_root, temp_folder } from "../fixtures.js";

/** folder/sub/file, all root's. */
function make_file(): { folder: string; sub: string; file: string } {
  const folder = temp_folder();
  const sub = join(folder, "sub");
  const file = join(sub, "file");
  mkdirSync(sub, { mode: 0o755 });
  writeFileSync(file, "text", { mode: 0o644 });
  return { folder, sub, file };
}

test("what is root's alone is read, under a sticky folder too", { skip: needs_root }, () => {
  const { folder, file } = make_file();
  assert.equal(distrust(file), undefined);
  assert.equal(read_trusted(file), "text");
  chmodSync(folder, 0o1777);
  assert.equal(distrust(file), undefined);
});

for (const [what, spoil, pattern] of [
  [
    "a file that the group can write",
    ({ file }) => chmodSync(file, 0o664),
    /file can be written by others than root \(mode 0664\); chmod go-w/,
  ],
  ["a file that all can write", ({ file }) => chmodSync(file, 0o602), /mode 0602/],
  ["a sticky file that all can write", ({ file }) => chmodSync(file, 0o1602), /mode 1602/],
  ["another's file", ({ file }) => chownSync(file, 65534, 0), /file is owned by uid 65534 and not by root; chown root/],
  [
    "a folder that others can write",
    ({ folder }) => chmodSync(folder, 0o777),
    /can be written by others than root \(mode 0777\)/,
  ],
  ["another's folder", ({ sub }) => chownSync(sub, 65534, 0), /sub is owned by uid 65534/],
] as const satisfies readonly (readonly [string, (made: ReturnType<typeof make_file>) => void, RegExp])[])
  test(`distrusts ${what}`, { skip: needs_root }, () => {
    const made = make_file();
    spoil(made);
    assert.match(distrust(made.file) ?? "", pattern);
    assert.throws(() => read_trusted(made.file), pattern);
  });

test("distrusts symbolic links, the last component's and others'", { skip: needs_root }, () => {
  const { folder, sub, file } = make_file();
  symlinkSync(file, join(folder, "link"));
  symlinkSync(sub, join(folder, "way"));
  for (const path of [join(folder, "link"), join(folder, "way/file")]) assert.match(distrust(path) ?? "", /is a symbolic link/);
});

test("only plain absolute paths", () => {
  for (const path of ["file", "./file", "/etc/../etc/passwd", "/etc/./passwd", ""])
    assert.match(distrust(path) ?? "", /is not a plain absolute path/, path);
  assert.equal(distrust("//etc//passwd"), undefined);
});

test("what is not there, no file or not readable is told in words, with nothing left open", () => {
  const before = count_descriptors();
  assert.throws(() => read_trusted("/etc/no-such-file"), /^Error: there is no such file; `sudo lowportd install` writes one$/);
  assert.throws(() => read_trusted("/etc"), /is not a regular file/);
  if (!is_root) assert.throws(() => read_trusted("/etc/shadow"), /cannot be read by this user/);
  assert.equal(count_descriptors(), before);
});
