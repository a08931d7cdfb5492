/** What each way to a low port adds to the start of a program. */
import { execFile } from "node:child_process";
import { appendFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { REPOSITORY, USERS } from "../../e2e/box.js";
import { as_user } from "../../e2e/client-app.js";
import { type Comparison, type Contender, figure_of } from "../compare.js";
import { start_lowport, start_reference } from "../daemons.js";
import { CPU, compile, has, pinned, version_of } from "../machine.js";
import { type Context, ENV, Ends, node } from "./beside.js";
import { prepare_authbind } from "./each-listen.js";

const PORT = "80";

/** Lets alice run Node as root. @returns what is missing for that */
function prepare_sudo(): string | undefined {
  if (!has("sudo")) return "apt-get install sudo";
  writeFileSync("/etc/sudoers.d/bench", `alice ALL=(root) NOPASSWD: ${process.execPath}\n`, { mode: 0o440 });
  appendFileSync("/etc/shadow", "alice:*:19000:0:99999:7:::\n"); // PAM wants the account to be one
  return undefined;
}

export async function fresh_program({ quick }: Context): Promise<Comparison> {
  const ends = new Ends();
  await start_lowport(ends, "lowport");
  const c = await start_reference(ends, "C with the same record");
  const starter = compile("peer-start");
  const alice = as_user(USERS.alice);
  const file = (path: string) => join(REPOSITORY, "dist/client", path);
  const [node_itself = "", ...app] = node("start-direct");
  const unchanged = [node_itself, ...app];
  const contender = (name: string, command: string[], ...options: string[]): Contender => ({
    name,
    round: async () => {
      const [program = "", ...args] = pinned(CPU, starter, ...options, quick ? "1" : "7", ...command);
      const { stdout } = await promisify(execFile)(program, args, { cwd: "/", env: ENV });
      return figure_of(
        stdout
          .trim()
          .split(" ")
          .map((ns) => Number(ns) / 1e6),
      );
    },
  });
  const contenders = [
    contender("root: node", [...as_user(USERS.root), ...unchanged]),
    contender("root: node with one empty file more", [...as_user(USERS.root), ...node("start-empty")]),
    contender("lowport: node", [...alice, ...node("start-lowport")]),
    contender("lowport: node, by a helper in C", [...alice, "env", `LOWPORT_SOCKET=${c.socket}`, ...node("start-lowport")]),
    contender("lowport: node, register", [...alice, node_itself, "--import", file("register.js"), ...app]),
    contender("lowport exec: node", [...alice, "sh", file("lowport.sh"), "exec", "--", ...unchanged]),
  ];
  const missing: { name: string; why: string }[] = [];
  const peer = (name: string, why: string | undefined, command: string[], ...options: string[]) => {
    if (why === undefined) contenders.push(contender(name, command, ...options));
    else missing.push({ name, why });
  };
  peer("authbind: node", prepare_authbind(), [...alice, "authbind", "--deep", ...unchanged]);
  peer("sudo: node (which is root then)", prepare_sudo(), [...alice, "sudo", "-n", ...unchanged]);
  const systemd = has("systemd-socket-activate") ? undefined : "apt-get install systemd";
  const activate = ["systemd-socket-activate", "-l", PORT, ...alice, ...unchanged, "fd"];
  peer("systemd-socket-activate: node", systemd, activate, "-c", PORT);
  return {
    title: "A fresh program, from its start until it listens",
    how:
      "an http server in a new Node, started by setpriv; all on one processor; systemd-socket-activate starts it at the first " +
      "connection, which is made as soon as it listens for the program; by a helper in C: the program asks the C of the rows above; " +
      ["authbind", "sudo", "systemd"].map((name) => `${name} ${version_of(name)}`).join(", "),
    unit: "ms",
    baseline: "root: node",
    contenders,
    missing,
    targets: [{ of: "lowport: node", most: 1.05 }],
    end: ends.end,
  };
}
