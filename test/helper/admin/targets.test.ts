/**
 * What install puts into the system: only where root alone can write, over nothing but its own, whole or not at all, and back to
 * what it was. Needs root, because only root can make such files and others' too.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { make_changes, Undone } from "../../../helper/admin/changes.js";
import { Refusal } from "../../../helper/admin/standing.js";
import { Plan } from "../../../helper/admin/targets.js";
import { native } from "../../../shared/native.js";
import { needs_root, temp_folder } from "../../fixtures.js";

const never = new AbortController().signal;
const quiet = () => undefined;
const make = (plan: Plan) => make_changes(plan.changes, never, quiet);
const failing = { says: "fail", apply: () => Promise.reject(new Error("no room")) };
const any = () => true;
const mode_of = (path: string) => lstatSync(path).mode & 0o7777;

const umask = process.umask(0o000); // the worst that a caller can have
after(() => process.umask(umask));

/** What stands in a folder, with kinds, owners, modes and contents. */
function snapshot(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .map((entry) => {
      const path = join(entry.parentPath, entry.name);
      const { mode, uid, gid, nlink } = lstatSync(path);
      const text = entry.isFile() ? readFileSync(path, "utf8") : entry.isSymbolicLink() ? readlinkSync(path) : "";
      return [path, mode.toString(8), uid, gid, entry.isFile() ? nlink : "", text].join(" ");
    })
    .toSorted();
}

function own_folder(): string {
  const folder = temp_folder();
  chmodSync(folder, 0o755);
  return folder;
}

test("a file appears with its folders, owner and mode, whatever the umask", { skip: needs_root }, async () => {
  const folder = own_folder();
  const plan = new Plan();
  assert.equal(plan.file({ path: join(folder, "a/b/file"), text: "text\n", mode: 0o644 }), true);
  assert.equal(plan.file({ path: join(folder, "a/b/other"), text: "", mode: 0o755 }), true);
  assert.deepEqual(plan.folders, [join(folder, "a"), join(folder, "a/b")]);
  assert.deepEqual(snapshot(folder), [], "planning changes nothing");
  await make(plan);
  assert.equal(readFileSync(join(folder, "a/b/file"), "utf8"), "text\n");
  for (const [path, mode] of [
    ["a", 0o755],
    ["a/b", 0o755],
    ["a/b/file", 0o644],
    ["a/b/other", 0o755],
  ] as const)
    assert.equal(mode_of(join(folder, path)), mode, path);
  assert.deepEqual(readdirSync(join(folder, "a/b")), ["file", "other"], "nothing is left beside them");
});

test("what is so already is no change", { skip: needs_root }, async () => {
  const folder = own_folder();
  const wanted = (plan: Plan) => {
    const written = plan.file({ path: join(folder, "file"), text: "text", mode: 0o600 });
    return written || plan.link(join(folder, "link"), "file", any);
  };
  const first = new Plan();
  assert.equal(wanted(first), true);
  first.link(join(folder, "link"), "file", any);
  await make(first);
  const second = new Plan();
  assert.equal(wanted(second), false);
  assert.deepEqual(second.changes, []);
  chmodSync(join(folder, "file"), 0o644);
  const third = new Plan();
  assert.equal(wanted(third), true, "another mode is a change");
  await make(third);
  assert.equal(mode_of(join(folder, "file")), 0o600);
});

/** What somebody may have planted, each by a function that puts it at the path. */
const PLANTED: readonly (readonly [string, RegExp, (path: string) => void])[] = [
  ["a symbolic link", /symbolic link/, (path) => symlinkSync("/etc/passwd", path)],
  ["a dangling symbolic link", /symbolic link/, (path) => symlinkSync("/nowhere", path)],
  ["a folder", /is a folder/, (path) => mkdirSync(path)],
  ["a fifo", /is a fifo/, (path) => void spawnSync("mkfifo", [path])],
  ["a socket", /is a socket/, (path) => void native().openUnix(path, 1)],
  ["a device", /is a device/, (path) => void spawnSync("mknod", [path, "c", "1", "3"])],
];
const PLANTED_FILES: typeof PLANTED = [
  [
    "another's file",
    /owned by uid 65534/,
    (path) => {
      writeFileSync(path, "");
      chownSync(path, 65534, 65534);
    },
  ],
  [
    "a file that others can write",
    /can be written by others/,
    (path) => {
      writeFileSync(path, "");
      chmodSync(path, 0o646);
    },
  ],
  [
    "a file with two names",
    /has 2 names/,
    (path) => {
      writeFileSync(`${path}.other`, "", { mode: 0o600 });
      linkSync(`${path}.other`, path);
    },
  ],
];

for (const [what, pattern, plant] of [...PLANTED, ...PLANTED_FILES])
  test(`${what} where a file is wanted is refused and untouched`, { skip: needs_root }, () => {
    const folder = own_folder();
    const path = join(folder, "file");
    plant(path);
    const before = snapshot(folder);
    for (const look of [(plan: Plan) => plan.file({ path, text: "mine", mode: 0o644 }), (plan: Plan) => plan.no_file(path)])
      assert.throws(
        () => look(new Plan()),
        (error) => error instanceof Refusal && pattern.test(error.message) && error.message.includes(path),
      );
    assert.deepEqual(snapshot(folder), before);
  });

for (const [what, pattern, plant] of PLANTED)
  test(`${what} where a folder is wanted is refused and untouched`, { skip: needs_root || what === "a folder" }, () => {
    const folder = own_folder();
    plant(join(folder, "sub"));
    if (!lstatSync(join(folder, "sub")).isSymbolicLink()) chmodSync(join(folder, "sub"), 0o600);
    const before = snapshot(folder);
    const refused = (error: unknown) => error instanceof Refusal && pattern.test(error.message);
    assert.throws(() => new Plan().file({ path: join(folder, "sub/file"), text: "", mode: 0o644 }), refused);
    assert.throws(() => new Plan().folder(join(folder, "sub/other")), refused);
    assert.deepEqual(snapshot(folder), before);
  });

for (const [what, , plant] of [...PLANTED, ...PLANTED_FILES])
  test(`${what} where a link is wanted is refused and untouched`, { skip: needs_root }, () => {
    const folder = own_folder();
    plant(join(folder, "link"));
    const before = snapshot(folder);
    assert.throws(() => new Plan().link(join(folder, "link"), "to", () => false), Refusal);
    assert.deepEqual(snapshot(folder), before);
  });

test("what is planted between plan and change is refused too, and is still there after undo", { skip: needs_root }, async () => {
  for (const [what, , plant] of [...PLANTED, ...PLANTED_FILES]) {
    const folder = own_folder();
    const plan = new Plan();
    plan.file({ path: join(folder, "file"), text: "mine", mode: 0o644 });
    plant(join(folder, "file"));
    const before = snapshot(folder);
    await assert.rejects(make(plan), Undone, what);
    assert.deepEqual(snapshot(folder), before, what);
  }
});

for (const [what, spoil, pattern] of [
  ["a group can write", (folder) => chmodSync(folder, 0o775), /can be written by others than root \(mode 0775\)/],
  ["all can write, though it is sticky,", (folder) => chmodSync(folder, 0o1777), /can be written by others than root/],
  ["is another's", (folder) => chownSync(folder, 65534, 0), /is owned by uid 65534/],
] as const satisfies readonly (readonly [string, (folder: string) => void, RegExp])[])
  test(`a folder that ${what} is refused by name`, { skip: needs_root }, () => {
    const folder = join(own_folder(), "sub");
    mkdirSync(folder, { mode: 0o755 });
    chmodSync(folder, 0o755);
    spoil(folder);
    for (const path of [join(folder, "file"), join(folder, "new/file")])
      assert.throws(
        () => new Plan().file({ path, text: "", mode: 0o644 }),
        (error) => error instanceof Refusal && pattern.test(error.message) && error.message.includes(folder),
      );
  });

test("undo brings back what was there: contents, modes, links, and no folder that was made", { skip: needs_root }, async () => {
  const folder = own_folder();
  writeFileSync(join(folder, "old"), "old text");
  chmodSync(join(folder, "old"), 0o600);
  writeFileSync(join(folder, "gone"), "to be removed");
  chmodSync(join(folder, "gone"), 0o644);
  symlinkSync("old", join(folder, "link"));
  const before = snapshot(folder);
  const inode = statSync(join(folder, "old")).ino;
  const plan = new Plan();
  plan.file({ path: join(folder, "old"), text: "new text", mode: 0o644 });
  plan.file({ path: join(folder, "new/er/file"), text: "", mode: 0o644 });
  plan.no_file(join(folder, "gone"));
  plan.link(join(folder, "link"), "new", any);
  plan.link(join(folder, "other"), "new", any);
  plan.step(failing);
  await assert.rejects(make(plan), /no room/);
  assert.deepEqual(snapshot(folder), before);
  assert.equal(statSync(join(folder, "old")).ino, inode, "it is the same file, so that undo needs no room on the disk");
});

test("when all is made, nothing of the old is left", { skip: needs_root }, async () => {
  const folder = own_folder();
  for (const name of ["old", "gone"]) {
    writeFileSync(join(folder, name), "old text");
    chmodSync(join(folder, name), 0o644);
  }
  const plan = new Plan();
  plan.file({ path: join(folder, "old"), text: "new text", mode: 0o644 });
  plan.no_file(join(folder, "gone"));
  plan.no_file(join(folder, "never"));
  assert.deepEqual(await make(plan), []);
  assert.deepEqual(readdirSync(folder), ["old"]);
  assert.equal(readFileSync(join(folder, "old"), "utf8"), "new text");
  assert.equal(statSync(join(folder, "old")).nlink, 1);
});

test("what an install that was killed has left beside a file is no hindrance, and is gone afterwards", {
  skip: needs_root,
}, async () => {
  const folder = own_folder();
  writeFileSync(join(folder, "file"), "text");
  chmodSync(join(folder, "file"), 0o644);
  linkSync(join(folder, "file"), join(folder, "file.lowport-old~"));
  writeFileSync(join(folder, "file.lowport-new~"), "half of the te");
  const plan = new Plan();
  plan.file({ path: join(folder, "file"), text: "new", mode: 0o644 });
  await make(plan);
  assert.deepEqual(readdirSync(folder), ["file"]);
  assert.equal(readFileSync(join(folder, "file"), "utf8"), "new");
});

test("a link is replaced only where it may be", { skip: needs_root }, async () => {
  const folder = own_folder();
  symlinkSync("one", join(folder, "link"));
  const asked: string[] = [];
  const plan = new Plan();
  plan.link(join(folder, "link"), "two", (to) => {
    asked.push(to);
    return true;
  });
  await make(plan);
  assert.deepEqual(asked, ["one"]);
  assert.equal(readlinkSync(join(folder, "link")), "two");
  assert.deepEqual(readdirSync(folder), ["link"]);
});
