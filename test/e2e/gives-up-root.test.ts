/**
 * Promise: once it serves, the helper has one capability on the one thread that binds, and no thread has more or a way
 * back. Looked at from outside, on every thread; and tried from outside, by root and by the helper's own user.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { start_helper } from "./helper-process.js";
import { Peer } from "./peer.js";

await enter_box(import.meta.url);

function statuses(pid: number): Map<string, string>[] {
  return readdirSync(`/proc/${pid}/task`).map((tid) => {
    const text = readFileSync(`/proc/${pid}/task/${tid}/status`, "utf8");
    return new Map(
      text.split("\n").map((line) => {
        const [name, value = ""] = line.split(/:\s*/);
        return [name as string, value.trim().replaceAll(/\s+/g, " ")];
      }),
    );
  });
}

test("no thread is root, has more than CAP_NET_BIND_SERVICE, or can become more", async (t) => {
  const helper = await start_helper(t);
  const wire = await (await Peer.start(t, USERS.alice)).connect();
  await wire.bind({ port: 80 }); // after it has worked, so that threads made late are seen too
  const threads = statuses(helper.pid);
  assert.ok(threads.length > 1, "the other threads are seen");
  for (const status of threads) {
    const main = status.get("Pid") === String(helper.pid);
    const capabilities = main ? "0000000000000400" : "0000000000000000";
    for (const [field, expected] of Object.entries({
      Uid: Array(4).fill(USERS.lowport.uid).join(" "),
      Gid: Array(4).fill(USERS.lowport.gid).join(" "),
      Groups: "",
      CapInh: "0000000000000000",
      CapPrm: capabilities,
      CapEff: capabilities,
      CapAmb: "0000000000000000",
      NoNewPrivs: "1",
      Seccomp: "2",
    }))
      assert.equal(status.get(field), expected, `${field} of thread ${status.get("Pid")} (main ${main})`);
    if (main) assert.equal(status.get("CapBnd"), "0000000000000400");
  }
});

test("it leaves no core file and cannot be looked into by its own user", async (t) => {
  const helper = await start_helper(t);
  assert.match(readFileSync(`/proc/${helper.pid}/limits`, "utf8"), /^Max core file size +0 +0 /m);
  assert.equal(statSync(`/proc/${helper.pid}/environ`).uid, 0, "not dumpable: /proc shows it as root's");
  const same = await Peer.start(t, { ...USERS.lowport, groups: [] });
  for (const name of ["mem", "maps", "environ", "fd/0"])
    await assert.rejects(same.do("attempt", { code: `open("/proc/${helper.pid}/${name}")` }), { code: "EACCES" }, name);
  const PTRACE_ATTACH = 16;
  const code = `import ctypes; libc = ctypes.CDLL(None, use_errno=True); libc.ptrace(${PTRACE_ATTACH}, ${helper.pid}, 0, 0); result = ctypes.get_errno()`;
  assert.equal(await same.do("attempt", { code }), 1, "ptrace: EPERM");
});
