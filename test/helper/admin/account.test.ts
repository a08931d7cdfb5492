/** Whether an account of our name can be ours, and which Node can be a service's. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { judge_group, judge_user, last_system_id, primary_members } from "../../../helper/admin/account.js";
import { judge_node, shared_libraries } from "../../../helper/admin/node.js";

const service = { uid: 900, gid: 900, shell: "/usr/sbin/nologin" };

test("a user that is no service's is refused", () => {
  assert.equal(judge_user(service, 999), undefined);
  assert.equal(judge_user({ ...service, shell: "/bin/false" }, 999), undefined);
  assert.match(judge_user({ ...service, uid: 0 }, 999) ?? "", /root/);
  assert.match(judge_user({ ...service, gid: 0 }, 999) ?? "", /root/);
  assert.match(judge_user({ ...service, uid: 1000 }, 999) ?? "", /a person's/);
  for (const shell of ["/bin/bash", "/bin/sh", "", "/home/nologin.sh"])
    assert.match(judge_user({ ...service, shell }, 999) ?? "", /can log in/, shell);
});

test("a group that somebody is in already is refused, unless install has made it", () => {
  assert.equal(judge_group({ gid: 900, members: [] }, 999, false), undefined);
  assert.match(judge_group({ gid: 900, members: ["eve"] }, 999, false) ?? "", /members \(eve\)/);
  assert.equal(judge_group({ gid: 900, members: ["eve"] }, 999, true), undefined);
  assert.match(judge_group({ gid: 0, members: [] }, 999, true) ?? "", /root/);
  assert.match(judge_group({ gid: 1000, members: [] }, 999, true) ?? "", /no system group's/);
});

test("who has it as the primary group is a member too", () => {
  const passwd =
    "root:x:0:0::/root:/bin/sh\nlowport:x:900:900::/:/bin/false\nmallory:x:1001:900::/:/bin/bash\nalice:x:1002:9001::/:/bin/sh\n";
  assert.deepEqual(primary_members(passwd, 900), ["mallory"]);
});

test("where people's ids begin is read from login.defs", () => {
  assert.equal(last_system_id("", "UID"), 999);
  assert.equal(last_system_id("#SYS_UID_MAX 499\nUID_MIN\t\t 500\n", "UID"), 499);
  assert.equal(last_system_id("UID_MIN 1000\nSYS_UID_MAX 899\nSYS_GID_MAX 799\n", "UID"), 899);
  assert.equal(last_system_id("UID_MIN 1000\nSYS_UID_MAX 899\nSYS_GID_MAX 799\n", "GID"), 799);
});

test("a Node in parts is refused, and one that shares libraries is told of", () => {
  assert.equal(judge_node({ node_shared: false }), undefined);
  assert.equal(judge_node({ node_shared: "false" }), undefined);
  for (const node_shared of [true, "true"]) assert.match(judge_node({ node_shared }) ?? "", /--node FILE/);
  assert.deepEqual(shared_libraries({ node_shared: false, node_shared_openssl: true, node_shared_libuv: "true" }), [
    "openssl",
    "libuv",
  ]);
  assert.deepEqual(shared_libraries({ node_shared: false, node_shared_openssl: false }), []);
});
