/**
 * Build step: makes one file of all that the helper loads, because a program of sixty files takes three times as long to start.
 * It is the compiled code as it is, names and all, file after file, and the same bytes each time; a test holds it to that.
 * The addon and posix stay outside, and so do the commands of an admin, which are loaded when they are given.
 */
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build, type Metafile, type OutputFile, type Plugin } from "esbuild";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** What the packages need for what they are not asked to do here: files, threads, hidden members, circles; calls of one's own. */
const LEFT_OUT = {
  pino: /^(sonic-boom|thread-stream|worker_threads|@pinojs\/redact|safe-stable-stringify|\.\/(lib\/)?(transport|multistream))$/,
  "json-rpc-2.0": /^\.\/(client|server-and-client)$/,
};

/** What stands in its place: it can be loaded, and fails when it is called. */
const STUB = `module.exports = function left_out() { throw new Error("this is left out of the helper"); };
Object.assign(module.exports, { isMainThread: true, configure: () => module.exports });
`;

const plugin: Plugin = {
  name: "lowport",
  setup(build_of) {
    build_of.onResolve({ filter: /./ }, ({ path, importer }) => {
      const found = Object.entries(LEFT_OUT).find(
        ([name, what]) => importer.includes(`/node_modules/${name}/`) && what.test(path),
      );
      return found && { path: "left-out", namespace: "lowport" };
    });
    build_of.onLoad({ filter: /./, namespace: "lowport" }, () => ({ contents: STUB }));
    // What is named is taken of a module of Node's, in place of a copy of the whole module with a getter for each name.
    build_of.onLoad({ filter: /\/dist\/(helper|shared)\/.*\.js$/ }, ({ path }) => ({
      contents: readFileSync(path, "utf8").replace(
        /^import \{([^}]*)\} from "(node:[^"]*)";$/gm,
        (_, names: string, from: string) => `const {${names.replaceAll(" as ", ": ")}} = require("${from}");`,
      ),
    }));
  },
};

/** The bundle of the compiled helper, and what it is made of. Not an ES module, which Node takes longer to start. */
export async function bundle(): Promise<{ files: OutputFile[]; metafile: Metafile }> {
  const { outputFiles, metafile } = await build({
    absWorkingDir: ROOT,
    entryPoints: ["dist/helper/main.js"],
    outfile: "dist/helper/main.cjs",
    bundle: true,
    write: false,
    metafile: true,
    sourcemap: true,
    sourcesContent: false,
    platform: "node",
    format: "cjs",
    target: "node20.19",
    external: ["./admin/commands.js"],
    define: { "import.meta.url": "bundle_url" },
    banner: { js: '"use strict";\nconst bundle_url = require("node:url").pathToFileURL(__filename).href;' },
    legalComments: "inline",
    plugins: [plugin],
  });
  return { files: outputFiles, metafile };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { files } = await bundle();
  for (const { path, contents } of files) writeFileSync(path, contents);
  chmodSync(join(ROOT, "dist/helper/main.cjs"), 0o755);
}
