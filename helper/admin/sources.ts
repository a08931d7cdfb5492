/**
 * What a release is made of, and whether it may be: root will run a copy of it. The threat: a program or Node below somebody's
 * home (nvm), or in a folder that a group may write, is that user's way to become root. So each file, and each folder above
 * it, must be root's alone before it is read, and symbolic links are not followed.
 */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { NODE_FLAGS } from "../../shared/node-flags.js";
import { distrust } from "../trusted-path.js";
import { look_at, Refusal } from "./standing.js";

/** The folder of this program, which has package.json in it. */
export const PROGRAM = fileURLToPath(new URL("../../../", import.meta.url)).replace(/\/$/, "");
/** Where releases are installed. */
export const LIBRARY = "/usr/local/lib/lowport";

/** A file of a release. */
export interface Source {
  /** Within the release. */
  readonly path: string;
  readonly mode: number;
  readonly sha256: string;
  /** Where its bytes are, or the bytes. */
  readonly from: string | Buffer;
}

const CURE =
  "What root runs must be root's alone. Install with a Node and a lowport that are: Node from your distribution or nodejs.org, then " +
  "`sudo npm install --global --allow-scripts=posix lowport` and `sudo lowportd install`";

/** Packages that only the build needs; pino is in main.cjs then. */
const NOT_AT_RUN_TIME = new Set(["ajv", "nan", "pino"]);
/** Folders and files of packages that nothing loads. */
const NOT_LOADED = new Set(["node_modules", "test", "benchmarks", "docs", "examples", "fixtures", "scripts", "types", ".github"]);
const NOT_LOADED_FILE = /(^|\/)((test|bench|benchmark|example|eslint\.config)\.js|tsconfig\.json)$/;

/** Parts of the program itself: a file, or a folder and which of its files. */
const PARTS: readonly (readonly [string, RegExp])[] = [
  ["package.json", /./],
  ["LICENSE", /./],
  ["shared/PROTOCOL.md", /./],
  ["dist/helper", /(?<!\/helper\/main)\.c?js$|main\.cjs$/],
  ["dist/client", /(?<!\/exec\/(main|supervisor))\.(c?js|sh|node)$/],
  ["dist/shared", /(?<!\/(generate|bundle))\.(js|json|node)$/],
  ["shared/generated", /\.json$/],
  ["helper/service", /./],
  ["helper/man", /./],
  ["client/man", /./],
  ["client/completions", /./],
];

/** The bytes of a file that is root's alone. @throws Refusal with the cure */
function read_source(path: string): Buffer {
  const why = distrust(path);
  if (why !== undefined) throw new Refusal(`${why}. ${CURE}`);
  if (look_at(path)?.isFile() !== true) throw new Refusal(`${path} is no regular file. ${CURE}`);
  return readFileSync(path);
}

/** The files below a folder, or the file, by their paths within it. Symbolic links are listed, and refused when read. */
function list_files(folder: string, skip: ReadonlySet<string> = new Set()): string[] {
  if (look_at(folder)?.isDirectory() !== true) return look_at(folder) === undefined ? [] : [""];
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (!entry.isDirectory()) return [entry.name];
    return skip.has(entry.name) ? [] : list_files(join(folder, entry.name), skip).map((path) => join(entry.name, path));
  });
}

/** Where `name` is found from a file in `folder`, as Node does it. @throws Refusal */
function find_package(name: string, folder: string): string {
  for (let at = folder; ; at = dirname(at)) {
    const found = join(at, "node_modules", name);
    if (look_at(join(found, "package.json")) !== undefined) return found;
    if (at === "/") throw new Refusal(`the package ${name} is missing in ${folder}; install lowport again`);
  }
}

/** The packages that the program in `folder` loads, and all that they depend on: name to folder. */
function find_packages(folder: string, found = new Map<string, string>()): Map<string, string> {
  const { dependencies = {} } = JSON.parse(read_source(join(folder, "package.json")).toString()) as {
    dependencies?: Record<string, string>;
  };
  for (const name of Object.keys(dependencies).filter((wanted) => !NOT_AT_RUN_TIME.has(wanted))) {
    const at = find_package(name, folder);
    const known = found.get(name);
    if (known !== undefined && known !== at)
      throw new Refusal(`${known} and ${at} are two versions of one package; install lowport on its own`);
    found.set(name, at);
    if (known === undefined) find_packages(at, found);
  }
  return found;
}

/** What a package is at run time; of one that is built (it has a binding.gyp), what was built. */
function files_of_package(name: string, folder: string): string[] {
  const loaded = list_files(folder, NOT_LOADED).filter(
    (path) => /(\.[cm]?js|\.json|(^|\/)LICENSE[^/]*)$/.test(path) && !NOT_LOADED_FILE.test(path),
  );
  const built = `build/Release/${name}.node`;
  if (look_at(join(folder, built)) !== undefined) return [...loaded.filter((path) => !path.startsWith("build/")), built];
  if (look_at(join(folder, "binding.gyp")) === undefined) return loaded;
  throw new Refusal(
    `${folder} is not built; build it with \`npm rebuild\` where lowport is, or install with --allow-scripts=${name}`,
  );
}

/** The commands: by absolute path, so that what PATH holds decides nothing. */
const LOWPORTD = `#!/bin/sh
exec ${LIBRARY}/current/node ${NODE_FLAGS.join(" ")} ${LIBRARY}/current/dist/helper/main.cjs "$@"
`;
/** As client/lowport.sh. */
const LOWPORT = `#!/bin/sh
here=${LIBRARY}/current/dist/client node=${LIBRARY}/current/node
. "$here/note-inherited.sh"
. "$here/node-flags.sh"
main=cli.js
[ "\${1-}" != exec ] || main=exec.cjs
exec "$node" $flags "$here/$main" "$@"
`;

/** All files of a release. @param node the Node that it will run on @param program the folder of the program. @throws Refusal that names the path component and the cure */
export function gather_sources(node: string, program = PROGRAM): Source[] {
  const take = (path: string, from: string | Buffer, mode = 0o644): Source => {
    const bytes = typeof from === "string" ? read_source(from) : from;
    return { path, mode, from, sha256: createHash("sha256").update(bytes).digest("hex") };
  };
  const own = PARTS.flatMap(([part, wanted]) =>
    list_files(join(program, part))
      .map((path) => join(part, path))
      .filter((path) => wanted.test(path))
      .map((path) => take(path, join(program, path))),
  );
  const packages = [...find_packages(program)].flatMap(([name, folder]) =>
    files_of_package(name, folder).map((path) => take(join("node_modules", name, path), join(folder, path))),
  );
  const sources = [
    take("node", node, 0o755),
    take("bin/lowport", Buffer.from(LOWPORT), 0o755),
    take("bin/lowportd", Buffer.from(LOWPORTD), 0o755),
    ...own,
    ...packages,
  ];
  return sources.toSorted((a, b) => (a.path < b.path ? -1 : 1));
}
