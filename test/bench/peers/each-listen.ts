/** What one `listen` costs in a program that is running already. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { REPOSITORY, USERS } from "../../e2e/box.js";
import { as_user } from "../../e2e/client-app.js";
import type { Comparison, Contender } from "../compare.js";
import { start_lowport, start_reference } from "../daemons.js";
import { CPU, has, pinned, version_of } from "../machine.js";
import { Answering, type Context, Ends, node } from "./beside.js";

const PORT = 80;
/** Rounds that do not count: Node compiles what it runs often, and a round should not depend on how many were before it. */
const WARM_UP = 4;

/** Lets alice bind the port by authbind. @returns what is missing for that */
export function prepare_authbind(): string | undefined {
  if (!has("authbind")) return "apt-get install authbind";
  mkdirSync("/etc/authbind/byport", { recursive: true });
  writeFileSync(`/etc/authbind/byport/${PORT}`, "", { mode: 0o755 }); // executable for all: it is alice alone that uses it
  return undefined;
}

export async function each_listen({ quick }: Context): Promise<Comparison> {
  const ends = new Ends();
  const alice = as_user(USERS.alice);
  await start_lowport(ends, "lowport");
  const c = await start_reference(ends, "C with the same record");
  const by_c = ["env", `LOWPORT_SOCKET=${c.socket}`];
  const contender = async (name: string, count: number, ...command: string[]): Promise<Contender> => {
    const program = new Answering(ends, pinned(CPU, ...command));
    await program.figure(WARM_UP * count);
    return { name, round: () => program.figure(count) };
  };
  const many = quick ? 200 : 500;
  const app = (way: string, ...flags: string[]) => {
    const [node_itself = "", ...others] = node("listen-app", way, String(PORT));
    return [node_itself, ...flags, ...others];
  };
  const register = join(REPOSITORY, "dist/client/register.js");
  const contenders = [
    await contender("root listen", many, ...app("direct")),
    await contender("lowport", many, ...alice, ...app("lowport")),
    await contender("lowport, the request alone", many, ...alice, ...app("bind")),
    await contender("lowport, by a helper in C", many, ...alice, ...by_c, ...app("lowport")),
    await contender("lowport, register", many, ...alice, ...app("register", "--import", register)),
  ];
  const why = prepare_authbind();
  if (why === undefined)
    contenders.push(await contender("authbind", quick ? 30 : 100, ...alice, "authbind", "--deep", ...app("direct")));
  return {
    title: "A listen in a running Node",
    how: `from server.listen(${PORT}) until "listening"; closing is not part of it; program and helper on one processor; "by a helper in C" asks the C of the rows above; authbind ${version_of("authbind")}`,
    unit: "µs",
    baseline: "root listen",
    contenders,
    missing: why === undefined ? [] : [{ name: "authbind", why }],
    targets: [{ of: "authbind", to: "lowport", least: 30 }],
    end: ends.end,
  };
}
