/** The only use of `posix`: names to ids with every argument checked, because the package itself takes anything for root. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { inspect } from "node:util";
import * as fc from "fast-check";
import { find_group, find_user } from "../../helper/posix.js";
import { DIST, run_module } from "../fixtures.js";

test("names and numbers that are there", () => {
  assert.deepEqual(find_user("root"), { name: "root", uid: 0, gid: 0 });
  for (const zero of [0, "0"]) assert.equal(find_user(zero)?.name, "root");
  assert.equal(find_user("nobody")?.uid, 65534);
  assert.equal(find_group("root")?.gid, 0);
});

test("a number is always a user, named or not, and its group is its own", () => {
  assert.deepEqual(find_user(3_999_999_999), { name: "3999999999", uid: 3_999_999_999, gid: 3_999_999_999 });
  assert.deepEqual(find_user("3999999999"), find_user(3_999_999_999));
  assert.deepEqual(find_group(3_999_999_999), { gid: 3_999_999_999, members: [] });
});

for (const wrong of ["", "root\0x", "no such", "no-such-user", "-1", "0x0", " root", "4294967296", "4294967295", "99999999999"])
  test(`${JSON.stringify(wrong)} is nobody`, () => {
    assert.equal(find_user(wrong), undefined);
    assert.equal(find_group(wrong), undefined);
  });

for (const wrong of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 32, 2 ** 32 - 1, 2 ** 32 - 2, undefined, null, {}, true])
  test(`${inspect(wrong)} is nobody, and least of all root`, () => {
    for (const find of [find_user, find_group] as ((value: unknown) => unknown)[]) {
      let found: unknown;
      try {
        found = find(wrong);
      } catch (error) {
        assert.ok(error instanceof TypeError); // what no schema lets through
      }
      assert.equal(found, undefined);
    }
  });

test("nothing but root's own names and 0 is root", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.nat(), fc.string({ unit: "binary" }), fc.stringMatching(/^r?o?ot\W*$/)), (text) => {
      if (text !== "root" && Number(text) !== 0) assert.notEqual(find_user(text)?.uid, 0);
      if (typeof text === "string" && text.includes("\0")) assert.equal(find_user(text), undefined);
    }),
  );
});

test("resource limits: no core files, and no more descriptors than wanted or had", () => {
  const limits = (wrap: string[]) =>
    run_module(
      `import { readFileSync } from "node:fs"; import { set_resource_limits } from "${DIST}helper/posix.js";
       set_resource_limits();
       const line = (name) => new RegExp("Max " + name + " +(\\\\w+) +(\\\\w+)").exec(readFileSync("/proc/self/limits", "utf8")).slice(1).join(" ");
       console.log(line("core file size"), line("open files"));`,
      wrap,
    ).stdout;
  assert.equal(limits(["prlimit", "--nofile=512:2048", "--core=0:unlimited"]), "0 0 2048 2048");
  const [hard = ""] = /(?<=Max open files +\w+ +)\w+/.exec(readFileSync("/proc/self/limits", "utf8")) ?? [];
  const wanted = hard === "unlimited" ? 65_536 : Math.min(65_536, Number(hard));
  assert.equal(limits([]), `0 0 ${wanted} ${wanted}`);
});
