/**
 * A socket can be taken back by the helper as it is when it serves: locked down. Apart from the addon's own tests, because as
 * root it works by other rights (SO_ATTACH_FILTER on TCP takes CAP_NET_ADMIN since some Linux 6).
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { DIST, needs_root, run_module } from "../fixtures.js";

for (const [what, stream, address] of [
  ["tcp IPv4", true, "127.0.0.1"],
  ["tcp IPv6", true, "::1"],
  ["tcp both", true, "::"],
  ["udp IPv4", false, "127.0.0.1"],
  ["udp both", false, "::"],
] as const)
  test(`revokes ${what} after the lock-down`, { skip: needs_root }, () => {
    const { stdout, stderr } = run_module(`import { lock_down } from "${DIST}helper/lockdown.js";
      import { native } from "${DIST}shared/native.js";
      import { leave_io_uring } from "${DIST}helper/io-uring.js";
      leave_io_uring();
      lock_down(65533, 65532);
      const fd = native().bindSocket(${stream}, "${address}", 0, false, false, 5);
      console.log(native().revokeSocket(fd), native().socketInfo(fd)[1]);`);
    assert.equal(stdout, "0 0", stderr);
  });
