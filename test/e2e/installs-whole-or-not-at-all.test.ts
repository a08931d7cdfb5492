/**
 * Promise: an install is whole or it was not: interrupted at any point it is undone by itself, killed it is removed by uninstall, and
 * neither an output that nobody reads nor a second install at the same time leaves it half-way.
 */
import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import { after, test } from "node:test";
import { until } from "./helper-process.js";
import { INSTALL, LOG } from "./hostile.js";
import { boot, CHECKOUT, NODE, need_inits } from "./real-init.js";
import { helper_pid, is_there, LIBRARY, list_disk, list_volatile, lowportd, same_disk, status } from "./service.js";

await need_inits(import.meta.url, "systemd");

const box = await boot({ after }, { init: "systemd" });
const before = list_disk(box);

/** Starts an install and ends it when it has said so many lines. */
async function interrupt(lines: number, signal: string): Promise<number | null> {
  const child = box.spawn([NODE, `${CHECKOUT}/dist/helper/main.cjs`, ...INSTALL]);
  let code: number | null | undefined;
  child.on("close", (ended) => (code = ended));
  let said = 0;
  let sent: Promise<unknown> | undefined;
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on("line", () => {
    if (++said === lines) sent = box.run(["pkill", `-${signal}`, "-f", "dist/helper/main.cjs install"]);
  });
  await until("it ends", () => code !== undefined);
  await sent;
  return code as number | null;
}

for (const [i, lines] of [1, 5, 9, 11, 13, 18, 25, 28].entries()) {
  const signal = ["INT", "TERM", "HUP"][i % 3] as string;
  test(`interrupted after ${lines} lines: undone by itself after SIG${signal}, and by uninstall after SIGKILL`, async () => {
    const code = await interrupt(lines, signal);
    if (code === 0)
      await box.do(["/usr/local/sbin/lowportd", "uninstall", "--purge"]); // it had ended already
    else assert.equal(code, 1);
    await box.do(["rm", "-rf", LOG]); // the record of a helper that ran stays
    same_disk(list_disk(box, "/srv"), before);
    assert.deepEqual(list_volatile(box), []);

    await interrupt(lines, "KILL");
    const { code: removed, stderr } = await lowportd(box, ["uninstall", "--purge"]);
    assert.equal(removed, 0, stderr);
    same_disk(list_disk(box, "/srv"), before);
    assert.deepEqual(list_volatile(box), []);
  });
}

test("an install whose output nobody reads any more is not left half-way", async () => {
  const main = `${CHECKOUT}/dist/helper/main.cjs`;
  for (const how of ['"$@" | :', '"$@" | head -n 1 >/dev/null', '"$@" >&- 2>&- <&-', '"$@" >/dev/full 2>&1']) {
    await box.run(["sh", "-c", how, "sh", NODE, main, ...INSTALL]);
    await until("it has ended", async () => (await box.run(["pgrep", "-f", "dist/helper/main.cjs install"])).code === 1);
    const whole =
      is_there(box, `${LIBRARY}/current`) && (await lowportd(box, INSTALL)).stdout.includes("already installed and running");
    if (whole) await box.do(["/usr/local/sbin/lowportd", "uninstall", "--purge"]);
    await box.do(["rm", "-rf", LOG]);
    same_disk(list_disk(box, "/srv"), before);
    assert.deepEqual(list_volatile(box), [], how);
  }
});

test("of two installs at once one is refused, and the other is whole", async () => {
  const outcomes = await Promise.all([lowportd(box, INSTALL), lowportd(box, INSTALL)]);
  assert.deepEqual(new Set(outcomes.map(({ code }) => code)), new Set([0, 1]), JSON.stringify(outcomes));
  assert.match(outcomes.find(({ code }) => code === 1)?.stderr ?? "", /another install or uninstall is running/);
  assert.equal((await status(box)).pid, helper_pid(box));
});
