/** Real programs, unmodified, each as an unprivileged user on its real port under `lowport exec`. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { get } from "./client-app.js";
import { exec, Program } from "./exec-program.js";
import { start_helper } from "./helper-process.js";

await enter_box(import.meta.url);

test("python3 -m http.server 80", async (t) => {
  const helper = await start_helper(t);
  writeFileSync("/run/hello.txt", "from python");
  const program = new Program(t, USERS.alice, exec("--", "/usr/bin/python3", "-m", "http.server", "80", "--directory", "/run"));
  assert.match(await program.serves(() => get(80)), /hello/);
  const { peer, params } = await helper.recorded("the bind", (line) => line.method === "bind");
  assert.equal(peer?.uid, USERS.alice.uid);
  assert.equal(params?.["label"], "python3");
});
