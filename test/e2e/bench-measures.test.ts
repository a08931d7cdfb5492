/** The bench on the real daemon, quick and small: it runs, names what is missing, and says so for machines. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import type { Result } from "../bench/compare.js";
import { enter_box, REPOSITORY } from "./box.js";

await enter_box(import.meta.url);

const BENCH = join(REPOSITORY, "dist/test/bench/bench.js");
const bench = (args: string[], env: NodeJS.ProcessEnv = process.env) =>
  spawnSync(process.execPath, [BENCH, ...args], { encoding: "utf8", env, maxBuffer: 1 << 24 });

test("grants beside C, a listen in a running Node: figures, ratios, and the peers that are not there", (t) => {
  // All programs of this machine but one peer.
  const folder = mkdtempSync(join(tmpdir(), "lowport-path-"));
  t.after(() => rmSync(folder, { recursive: true }));
  chmodSync(folder, 0o755);
  for (const from of [dirname(process.execPath), "/usr/sbin", "/usr/bin", "/sbin", "/bin"])
    for (const name of readdirSync(from)) if (name !== "authbind") try_link(join(from, name), join(folder, name));
  const { LOWPORT_BOX: _, LOWPORT_BENCH_DISK: __, ...others } = process.env;
  const env = { ...others, PATH: folder };
  const { status, stdout, stderr } = bench(["--quick", "--json", "--only", "new_connection", "--only", "each_listen"], env);
  assert.equal(status, 0, stderr);
  const { machine, quick, results } = JSON.parse(stdout) as { machine: string; quick: boolean; results: Result[] };
  assert.match(machine, /^lowport \d.*CPUs.*Linux.*Node \d/);
  assert.deepEqual([quick, results.length], [true, 2]);
  const [grants, listens] = results as [Result, Result];
  assert.deepEqual(
    grants.rows.map(({ name }) => name),
    ["C with the same record", "lowport", "Node alone"],
  );
  for (const { p50, p99, ratio } of grants.rows) assert.ok(p50 > 1 && (p99 ?? 0) >= p50 && ratio > 0);
  assert.deepEqual(listens.missing, [{ name: "authbind", why: "apt-get install authbind" }]);
  assert.ok(listens.rows.some(({ name }) => name === "lowport") && listens.rows.every(({ name }) => name !== "authbind"));
});

test("what it does not know is refused by name", () => {
  const { status, stderr } = bench(["--only", "nothing"]);
  assert.equal(status, 64);
  assert.match(stderr, /there is no nothing; there are warm_grant, /);
});

function try_link(from: string, to: string): void {
  try {
    symlinkSync(from, to);
  } catch {
    // /bin is /usr/bin, mostly
  }
}
