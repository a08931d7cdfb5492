/**
 * Promise: an upgrade is what the admin asked for. It keeps the leases also when the socket unit changes, the installed program does
 * not pass for the new one, and a helper that somebody has started by hand keeps its socket.
 */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { until } from "./helper-process.js";
import { boot, CHECKOUT, need_inits } from "./real-init.js";
import { install, leases, lowport, lowportd, NEWER, Program, status, with_newer } from "./service.js";

await need_inits(import.meta.url, "systemd");

const box = await boot({ after }, { init: "systemd" });
const leaves_nothing = await with_newer(box);

/** An app of www-data that has port 80, and keeps it. */
const APP = `
import { bind } from "${CHECKOUT}/dist/client/index.js";
const { fd } = await bind({ protocol: "tcp", port: 80, hold: 60 });
console.log(JSON.stringify({ fd }));
setInterval(() => undefined, 60_000);`;

test("an upgrade that changes the socket unit too keeps the leases", async (t) => {
  await install(box);
  const app = Program.start(box, "www-data", APP);
  t.after(() => app.process.kill());
  await app.said("fd");
  const held = await leases(box);
  assert.equal(held.length, 1);
  const { code, stdout, stderr } = await lowportd(box, ["install"], {}, NEWER);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /rewrite \/etc\/systemd\/system\/lowport.socket/);
  assert.deepEqual(
    (await leases(box)).map(({ lease, uid, port }) => [lease, uid, port]),
    held.map(({ lease, uid, port }) => [lease, uid, port]),
  );
  app.process.kill();
  await until("the app has ended", () => app.process.exitCode !== null || app.process.signalCode !== null);
  await leaves_nothing();
});

test("the installed lowportd does not pass for the new one that npm has installed", async (t) => {
  await install(box);
  const again = await box.run(["/usr/local/sbin/lowportd", "install"]);
  assert.equal(again.code, 0, again.stderr);
  assert.match(again.stdout, /this was the installed lowport .* itself; to upgrade it or its Node, run the new one by its path/);
  // As npm leaves it: the package, and its own links where ours were.
  await box.do([
    "sh",
    "-ec",
    `mkdir -p /usr/local/lib/node_modules; cp -a ${NEWER} /usr/local/lib/node_modules/
     ln -sf ../lib/node_modules/lowport/dist/client/lowport.sh /usr/local/bin/lowport
     ln -sf ../lib/node_modules/lowport/dist/helper/main.cjs /usr/local/bin/lowportd`,
  ]);
  t.after(() => box.run(["rm", "-rf", "/usr/local/lib/node_modules", "/usr/local/bin/lowportd"]));
  const { code, stderr } = await box.run(["/usr/local/sbin/lowportd", "install"]);
  assert.equal(code, 78, stderr);
  assert.match(stderr, /this is the installed lowport .* itself, and \/usr\/local\/lib\/node_modules\/lowport has another/);
  const command = /To install that: sudo (\S+ \S+main\.cjs) install/.exec(stderr)?.[1] ?? "";
  const upgrade = await box.run([...command.split(" "), "install"]);
  assert.equal(upgrade.code, 0, upgrade.stderr);
  assert.match(upgrade.stdout, /is up to date/);
  const same = await box.run(["/usr/local/sbin/lowportd", "install"]);
  assert.match(same.stdout, /already installed and running/, same.stderr);
  await box.do(["rm", "-rf", "/usr/local/lib/node_modules", "/usr/local/bin/lowportd"]);
  await leaves_nothing();
});

test("a helper that was started by hand keeps its socket: install refuses", async () => {
  await install(box);
  await box.do(["systemctl", "stop", "lowport.socket", "lowport.service"]);
  await box.do(["/usr/local/sbin/lowportd", "run", "--daemon"]);
  const { pid } = await status(box);
  const { code, stderr } = await lowportd(box, ["install"], {}, NEWER);
  assert.equal(code, 78, stderr);
  assert.match(stderr, new RegExp(`a helper that systemd has not started serves on /run/lowport/lowport.sock \\(pid ${pid}\\)`));
  assert.equal((await status(box)).pid, pid);
  await box.do(["kill", String(pid)]);
  await until("it has ended", async () => (await lowport(box, "status")).code !== 0);
  await leaves_nothing();
});
