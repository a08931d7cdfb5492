/**
 * Build step: makes one file of all that the helper loads, because sixty files take twice as long to start; and for the same reason
 * a few of the library.
 * It is the code as it is, names and all, file after file, and the same bytes each time; a test holds the helper's to that.
 * The addon and posix stay outside, and so do the commands of an admin, which are loaded when they are given.
 */
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build, type Metafile, type OutputFile, type Plugin } from "esbuild";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** What the packages have for what they are not asked to do: files, threads, hidden members, circles; the other side of calls. */
const UNUSED = {
  pino: /^(sonic-boom|thread-stream|worker_threads|@pinojs\/redact|safe-stable-stringify|\.\/(lib\/)?(transport|multistream))$/,
  "json-rpc-2.0": /^\.\/(client|server|server-and-client)$/,
};

/** What stands in its place: it can be loaded, and fails when it is called. */
const STUB = `module.exports = function left_out() { throw new Error("this is left out of lowport"); };
Object.assign(module.exports, { isMainThread: true, configure: () => module.exports });
`;

const leave_out = (unused: Record<string, RegExp>): Plugin => ({
  name: "leave-out",
  setup(plan) {
    plan.onResolve({ filter: /./ }, ({ path, importer }) => {
      const of = Object.entries(unused).find(([name, what]) => importer.includes(`/node_modules/${name}/`) && what.test(path));
      return of && { path: "left-out", namespace: "lowport" };
    });
    plan.onLoad({ filter: /./, namespace: "lowport" }, () => ({ contents: STUB }));
  },
});

/**
 * What is named is taken of a module of Node's: where that is imported, all that it has is looked at, which loads more modules,
 * or copied. @param files whose imports are meant @param take what gives a module
 */
const take_names = (files: RegExp, take: string): Plugin => ({
  name: "take-names",
  setup(plan) {
    plan.onLoad({ filter: files }, ({ path }) => ({
      loader: "default",
      contents: readFileSync(path, "utf8").replace(
        /^import (\w+|\{[^}]*\}) from ("node:(?!process")[^"]*");$/gm,
        (_, names: string, from: string) =>
          `const ${names.replace(/\btype \w+,?/g, "").replaceAll(" as ", ": ")} = ${take}(${from});`,
      ),
    }));
  },
});

const COMMON = {
  absWorkingDir: ROOT,
  bundle: true,
  write: false,
  metafile: true,
  sourcemap: true,
  sourcesContent: false,
  platform: "node",
  target: "node20.19",
  legalComments: "inline",
} as const;

/** Not an ES module, which Node takes longer to start. */
const NO_MODULE = {
  format: "cjs",
  define: { "import.meta.dirname": "__dirname", "import.meta.filename": "__filename" },
  banner: { js: '"use strict";' },
} as const;

/** The bundle of the compiled helper, and what it is made of. */
export async function bundle_helper(): Promise<{ outputFiles: OutputFile[]; metafile: Metafile }> {
  return build({
    ...COMMON,
    entryPoints: ["dist/helper/main.js"],
    outfile: "dist/helper/main.cjs",
    external: ["./admin/commands.js"],
    ...NO_MODULE,
    plugins: [leave_out(UNUSED), take_names(/\/dist\/(helper|shared)\/.*\.js$/, "require")],
  });
}

/**
 * A file in place of what the compiler has made of it, with all that it imports. What is preloaded has nothing of the library's, which
 * it loads when it needs it, so that there is one of that in a process.
 */
async function bundle_library(file: string): Promise<{ outputFiles: OutputFile[] }> {
  return build({
    ...COMMON,
    entryPoints: [file],
    outdir: "dist/client",
    format: "esm",
    plugins: [take_names(/\/(client|shared)\/[^/]*\.ts$/, "process.getBuiltinModule")],
  });
}

/** The two programs of `lowport exec`, which the user's program waits for. */
async function bundle_exec(): Promise<{ outputFiles: OutputFile[] }> {
  return build({
    ...COMMON,
    entryPoints: { exec: "client/exec/main.ts", supervisor: "client/exec/supervisor.ts" },
    outdir: "dist/client",
    outExtension: { ".js": ".cjs" },
    ...NO_MODULE,
    plugins: [take_names(/\/(client|shared)\/.*\.ts$/, "require")],
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const all = [
    await bundle_helper(),
    await bundle_library("client/index.ts"),
    await bundle_library("client/register.ts"),
    await bundle_exec(),
  ];
  for (const { path, contents } of all.flatMap(({ outputFiles }) => outputFiles)) writeFileSync(path, contents);
  chmodSync(join(ROOT, "dist/helper/main.cjs"), 0o755);
}
