/** The `lowport` command as a user of the box runs it. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import process from "node:process";
import { REPOSITORY, type User } from "./box.js";
import { as_user } from "./client-app.js";
import type { Outcome } from "./helper-process.js";

export async function lowport(user: User, args: readonly string[], env: Record<string, string> = {}): Promise<Outcome> {
  const command = [...as_user(user), process.execPath, join(REPOSITORY, "dist/client/cli.js"), ...args];
  const child = spawn(command[0] as string, command.slice(1), {
    cwd: "/",
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", ...env },
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const [code] = (await once(child, "close")) as [number | null];
  return { code, stdout, stderr };
}

/** Runs a command as text and as JSON: both must end with this code, and the JSON must be one document on one line. */
// biome-ignore lint/suspicious/noExplicitAny: what a command answers is for the test to look at
export async function both_ways(user: User, args: readonly string[], code: number): Promise<{ text: Outcome; json: any }> {
  const text = await lowport(user, args);
  assert.equal(text.code, code, JSON.stringify(text));
  const again = await lowport(user, [...args, "--json"]);
  assert.equal(again.code, code, JSON.stringify(again));
  assert.match(again.stdout, /^[^\n]+\n$/);
  const json = JSON.parse(again.stdout);
  if (text.stdout === "") {
    assert.equal(typeof json.error.code, "string");
    assert.ok(text.stderr.includes(json.error.message), text.stderr);
    assert.doesNotMatch(text.stderr, /\n\s+at /, "no stack");
  } else assert.equal(text.stderr, "");
  return { text, json };
}
