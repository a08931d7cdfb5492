/**
 * Promise: where there is no addon (another platform, not built) the library imports, and listens directly; only what needs
 * the helper fails, and says why. The real files run, in a copy without the addon.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

const DIST = fileURLToPath(new URL("../../", import.meta.url));
const copy = mkdtempSync(join(tmpdir(), "lowport-elsewhere-"));
after(() => rmSync(copy, { recursive: true }));
for (const part of ["client", "shared"])
  cpSync(join(DIST, part), join(copy, part), { recursive: true, filter: (path) => !path.endsWith(".node") });
symlinkSync(join(DIST, "../node_modules"), join(copy, "node_modules"));
writeFileSync(join(copy, "package.json"), '{ "type": "module" }');

/** Runs a program on a platform, and gives what it says; it must end well. */
function run(platform: string, code: string): unknown {
  const program = `Object.defineProperty(process, "platform", { value: ${JSON.stringify(platform)} });
    const { Client, bind, bindUdp, connect, listen } = await import(${JSON.stringify(`${copy}/client/index.js`)});
    const { default: http } = await import("node:http");
    const { default: dgram } = await import("node:dgram");
    const show = ({ code, message, port, syscall }) => ({ code, message, port, syscall });
    /** A bind that the kernel refuses, whoever we are. */
    const refuse = (server) => {
      server.listen = ({ port }) => {
        const error = new Error("listen EACCES: permission denied 0.0.0.0:" + port);
        setImmediate(() => server.emit("error", Object.assign(error, { code: "EACCES", syscall: "listen", port })));
        return server;
      };
      return server;
    };
    ${code}`;
  const { status, stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "--eval", program], {
    encoding: "utf8",
    env: {},
  });
  assert.equal(stderr, "");
  assert.equal(status, 0);
  return JSON.parse(stdout);
}

for (const [platform, says] of [
  ["darwin", /It exists on Linux only/],
  ["win32", /It exists on Linux only/],
  ["linux", /Build it with `npm run build`/],
] as const) {
  test(`${platform} without the addon: a port that the kernel gives is bound directly`, () => {
    const said = run(
      platform,
      `const server = http.createServer();
       const { via } = await listen(server, { port: 0, host: "127.0.0.1" });
       const udp = dgram.createSocket("udp4");
       const other = await bindUdp(udp, { port: 0, host: "127.0.0.1" });
       console.log(JSON.stringify([via, server.listening, other.via, udp.address().port > 0]));
       server.close(); udp.close();`,
    );
    assert.deepEqual(said, ["direct", true, "direct", true]);
  });

  test(`${platform} without the addon: EACCES stays EACCES, with why the helper cannot help`, () => {
    const [listened, bound, connected] = run(
      platform,
      `const results = [
         await listen(refuse(http.createServer()), { port: 80 }).catch(show),
         await bind({ protocol: "tcp", port: 80 }).catch(show),
         await connect().catch(show),
       ];
       console.log(JSON.stringify(results));`,
    ) as { code: string; message: string; port: number; syscall: string }[];
    assert.equal(listened?.code, "EACCES");
    assert.equal(listened?.syscall, "listen");
    assert.equal(listened?.port, 80);
    assert.match(listened?.message ?? "", says);
    assert.match(listened?.message ?? "", /permission denied 0\.0\.0\.0:80/);
    for (const error of [bound, connected]) {
      assert.equal(error?.code, "ENOSYS");
      assert.match(error?.message ?? "", says);
    }
  });
}

test("without the addon LISTEN_FDS is looked at on Linux alone, and spoils nothing", () => {
  const code = `process.env.LISTEN_PID = String(process.pid); process.env.LISTEN_FDS = "1";
    const server = http.createServer();
    const result = await listen(server, { port: 0, host: "127.0.0.1" }).catch(show);
    console.log(JSON.stringify(result.via ?? result));
    server.close();`;
  assert.equal(run("darwin", code), "direct");
  assert.equal(run("linux", code), "direct");
});
