/** What the kernel says to a bind, as refusals; on real sockets of this host. */
import assert from "node:assert/strict";
import { closeSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { type Binding, bind_socket } from "../../helper/binder.js";
import { LowportError } from "../../shared/errors.js";
import { native } from "../../shared/native.js";
import { count_descriptors, DIST, free_port, run_module } from "../fixtures.js";

const binding = (over: Partial<Binding>): Binding => ({
  ...{ protocol: "tcp", address: "127.0.0.1", port: 1, ipv6Only: false, backlog: 16, reusePort: false },
  ...over,
});
const refused = (name: string, pattern: RegExp) => (error: unknown) => {
  assert.ok(error instanceof LowportError, String(error));
  assert.equal(error.data.code, name);
  assert.match(error.data.reason, pattern);
  return true;
};

for (const address of ["127.0.0.1", "::1", "0.0.0.0", "::"])
  for (const protocol of ["tcp", "udp"] as const)
    test(`binds ${protocol} on ${address}, listening if tcp`, () => {
      const port = free_port(protocol === "tcp");
      const fd = bind_socket(binding({ protocol, address, port, ipv6Only: address === "::" }), true);
      const tcp = Number(protocol === "tcp");
      assert.deepEqual(native().socketInfo(fd), [tcp, tcp, port, address, Number(address.includes(":"))]);
      const flags = Number.parseInt(/flags:\s*(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1] ?? "", 8);
      assert.equal(flags & 0o2004000, 0o2004000, "close-on-exec and non-blocking");
      closeSync(fd);
    });

test("a taken address is EADDRINUSE, with nothing left behind", () => {
  const port = free_port();
  const fd = bind_socket(binding({ port }), true);
  const before = count_descriptors();
  assert.throws(() => bind_socket(binding({ port }), true), refused("EADDRINUSE", /^tcp 127\.0\.0\.1:\d+ is taken/));
  assert.throws(() => bind_socket(binding({ port, reusePort: true }), true), refused("EADDRINUSE", /is taken/));
  assert.throws(() => bind_socket(binding({ port, address: "0.0.0.0" }), true), refused("EADDRINUSE", /is taken/));
  assert.equal(count_descriptors(), before);
  closeSync(fd);
});

test("an address of another host is EADDRNOTAVAIL", () => {
  for (const address of ["192.0.2.1", "2001:db8::1", "fe80::1"])
    assert.throws(
      () => bind_socket(binding({ address, port: free_port() }), true),
      refused("EADDRNOTAVAIL", /no address of this host/),
    );
});

test("reusePort joins a socket of the same user, but not one that is not known", () => {
  const port = free_port();
  const shared = binding({ port, reusePort: true });
  const before = count_descriptors();
  const one = bind_socket(shared, true);
  const two = bind_socket(shared, false);
  assert.equal(count_descriptors(), before + 2, "the probe is closed");
  assert.throws(() => bind_socket(shared, true), refused("EADDRINUSE", /is taken/));
  closeSync(one);
  closeSync(two);
});

test("out of descriptors is EMFILE", () => {
  const { status, stderr } = run_module(
    `import { openSync } from "node:fs";
     import { bind_socket } from "${DIST}helper/binder.js";
     import { native } from "${DIST}shared/native.js";
     native();
     try { for (;;) openSync("/dev/null"); } catch {}
     try { bind_socket(${JSON.stringify(binding({ port: free_port() }))}, true); process.exit(1); }
     catch (error) { process.exit(error.data?.code === "EMFILE" ? 0 : 2); }`,
    ["prlimit", "--nofile=64"],
  );
  assert.equal(status, 0, stderr);
});

const START = Number(readFileSync("/proc/sys/net/ipv4/ip_unprivileged_port_start", "utf8"));
const no_low_ports = START > 881 ? false : `NOT TESTED: ports from ${START} on are free for all here`;

test("anything else the kernel says is a bug, not a refusal", { skip: no_low_ports }, () => {
  // EACCES: the helper without its capability. As root there is no such port.
  const source = `import { bind_socket } from "${DIST}helper/binder.js";
    try { bind_socket(${JSON.stringify(binding({ port: 881 }))}, true); }
    catch (error) { console.log(error.name, error.message); }`;
  const drop = process.getuid?.() === 0 ? ["setpriv", "--bounding-set=-net_bind_service"] : [];
  assert.equal(run_module(source, drop).stdout, "Error tcp 127.0.0.1:881: bind failed with EACCES");
});
