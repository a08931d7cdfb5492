/** A release: named by what is in it, whole or not there, repaired if it is damaged, and made of what root alone can write. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { appendFileSync, chmodSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { make_changes } from "../../../helper/admin/changes.js";
import {
  copy_release,
  is_intact,
  list_releases,
  manifest_of,
  name_release,
  remove_unfinished,
} from "../../../helper/admin/release.js";
import { gather_sources, PROGRAM, type Source } from "../../../helper/admin/sources.js";
import { Refusal } from "../../../helper/admin/standing.js";
import { distrust } from "../../../helper/trusted-path.js";
import { needs_root, temp_folder } from "../../fixtures.js";

const never = new AbortController().signal;
const quiet = () => undefined;
const source = (path: string, text: string, mode = 0o644): Source => ({
  path,
  mode,
  from: Buffer.from(text),
  sha256: createHash("sha256").update(text).digest("hex"),
});
const SOURCES = [source("bin/run", "#!/bin/sh\n", 0o755), source("dist/main.js", "1;\n"), source("package.json", "{}")];

function own_folder(): string {
  const folder = temp_folder();
  chmodSync(folder, 0o755);
  return folder;
}
async function install(library: string, sources: readonly Source[]): Promise<string> {
  const name = name_release(sources);
  const change = copy_release(name, sources, library);
  if (change !== undefined) await make_changes([change], never, quiet);
  return join(library, name);
}

test("its name is that of its content: paths, modes and bytes", () => {
  const name = name_release(SOURCES);
  assert.match(name, /^\d+\.\d+\.\d+-[0-9a-f]{12}$/);
  assert.equal(name_release([...SOURCES]), name);
  for (const other of [
    [source("bin/run", "#!/bin/sh\n", 0o644), ...SOURCES.slice(1)],
    [source("bin/run", "#!/bin/bash\n", 0o755), ...SOURCES.slice(1)],
    [source("bin/ran", "#!/bin/sh\n", 0o755), ...SOURCES.slice(1)],
    SOURCES.slice(1),
  ])
    assert.notEqual(name_release(other), name);
});

test("it is copied with its modes whatever the umask, once", { skip: needs_root }, async () => {
  const library = own_folder();
  const umask = process.umask(0o000);
  const folder = await install(library, SOURCES);
  process.umask(umask);
  assert.equal(readFileSync(join(folder, "dist/main.js"), "utf8"), "1;\n");
  for (const [path, mode] of [
    ["", 0o755],
    ["bin", 0o755],
    ["bin/run", 0o755],
    ["dist/main.js", 0o644],
    ["manifest.json", 0o644],
  ] as const)
    assert.equal(lstatSync(join(folder, path)).mode & 0o7777, mode, path);
  assert.equal(readFileSync(join(folder, "manifest.json"), "utf8"), manifest_of(SOURCES));
  assert.equal(copy_release(name_release(SOURCES), SOURCES, library), undefined);
  assert.deepEqual(list_releases(library), readdirSync(library));
});

for (const [what, damage] of [
  ["changed bytes", (folder) => appendFileSync(join(folder, "dist/main.js"), "2;\n")],
  ["another mode", (folder) => chmodSync(join(folder, "bin/run"), 0o4755)],
  ["a missing file", (folder) => rmSync(join(folder, "bin/run"))],
  ["a file more", (folder) => writeFileSync(join(folder, "dist/evil.js"), "")],
  ["a folder that others can write", (folder) => chmodSync(join(folder, "dist"), 0o777)],
] as const satisfies readonly (readonly [string, (folder: string) => void])[])
  test(`${what}: it is copied again`, { skip: needs_root }, async () => {
    const library = own_folder();
    const folder = await install(library, SOURCES);
    damage(folder);
    assert.equal(is_intact(folder, SOURCES), false);
    await install(library, SOURCES);
    assert.equal(is_intact(folder, SOURCES), true);
    assert.equal(readdirSync(library).length, 1);
  });

test("a copy that fails leaves nothing, and a damaged one as it was", { skip: needs_root }, async () => {
  const library = own_folder();
  const folder = await install(library, SOURCES);
  appendFileSync(join(folder, "dist/main.js"), "2;\n");
  const failing = { says: "fail", apply: () => Promise.reject(new Error("no room")) };
  const change = copy_release(name_release(SOURCES), SOURCES, library);
  assert.ok(change);
  await assert.rejects(make_changes([change, failing], never, quiet), /no room/);
  assert.equal(readFileSync(join(folder, "dist/main.js"), "utf8"), "1;\n2;\n");
  assert.equal(readdirSync(library).length, 1);
  const lies = SOURCES.map((each) => ({ ...each, sha256: "0".repeat(64) }));
  await assert.rejects(install(library, lies), /has changed while it was copied/);
  assert.equal(readdirSync(library).length, 1);
});

test("what a killed install has left is removed, and nothing else", { skip: needs_root }, async () => {
  const library = own_folder();
  await install(library, SOURCES);
  for (const name of [".new-0.1.0-abc", ".old-0.1.0-abc", "mine"]) mkdirSync(join(library, name, "sub"), { recursive: true });
  remove_unfinished(library);
  assert.deepEqual(readdirSync(library).toSorted(), [name_release(SOURCES), "mine"].toSorted());
  assert.deepEqual(list_releases(library), [name_release(SOURCES)]);
});

const untrusted = needs_root || (distrust(PROGRAM) ?? distrust(process.execPath) ?? false);

test("this program's sources are what it loads: no tests, no types, no maps, nothing that is only for the build", {
  skip: untrusted,
}, () => {
  const paths = gather_sources(process.execPath).map(({ path }) => path);
  for (const needed of [
    "node",
    "bin/lowport",
    "bin/lowportd",
    "package.json",
    "dist/helper/main.cjs",
    "dist/helper/admin/install.js",
    "dist/client/cli.js",
    "dist/shared/native/lowport.node",
    "dist/shared/generated/openrpc.json",
    "helper/service/lowport.service",
    "node_modules/json-rpc-2.0/dist/index.js",
    "node_modules/posix/build/Release/posix.node",
  ])
    assert.ok(paths.includes(needed), needed);
  assert.deepEqual(
    paths.filter((path) =>
      /\.(ts|map|c|gyp)$|(^|\/)tests?\/|node_modules\/(ajv|nan|pino|sonic-boom)\/|(generate|bundle|helper\/main)\.js/.test(path),
    ),
    [],
  );
  assert.deepEqual(paths, paths.toSorted());
});

test("a Node that others could replace is refused with the cure", { skip: untrusted }, () => {
  const node = join(own_folder(), "node");
  writeFileSync(node, "");
  chmodSync(node, 0o775);
  assert.throws(
    () => gather_sources(node),
    (error) => error instanceof Refusal && error.message.includes(node) && /sudo npm install --global/.test(error.message),
  );
});
