/** What other ways between processes take to hand over a socket. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { USERS } from "../../e2e/box.js";
import { as_user } from "../../e2e/client-app.js";
import type { Comparison, Contender } from "../compare.js";
import { CPU, compile, has, pinned, version_of } from "../machine.js";
import { Answering, type Context, Ends, FOLDER, start_server } from "./beside.js";

const BUS = `${FOLDER}/bus`;
/** As the system's own: peers are known by the credentials of their socket; and everything is allowed. */
const BUS_CONFIG = `<busconfig>
  <listen>unix:path=${BUS}</listen><auth>EXTERNAL</auth>
  <policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy>
</busconfig>`;
const HOLDER = `${FOLDER}/fdholder`;
const RULES = `${FOLDER}/fdholder-rules`;

/** Flags of a library that the compiler needs; undefined if it is not there. */
function dbus_flags(): string[] | undefined {
  const { status, stdout } = spawnSync("pkg-config", ["--cflags", "--libs", "dbus-1"], { encoding: "utf8" });
  return status === 0 ? stdout.trim().split(/\s+/) : undefined;
}
const has_header = (name: string) => spawnSync("cc", ["-E", "-x", "c", "-include", name, "/dev/null"]).status === 0;

/** What a user may do with s6-fdholderd stands in a folder of the user's. */
function write_rule(uid: number, ...may: ("STORE" | "RETRIEVE")[]): void {
  mkdirSync(`${RULES}/uid/${uid}/env`, { recursive: true });
  writeFileSync(`${RULES}/uid/${uid}/allow`, "");
  for (const what of may) writeFileSync(`${RULES}/uid/${uid}/env/S6_FDHOLDER_${what}_REGEX`, "^bench");
}

export async function bus_calls({ quick }: Context): Promise<Comparison> {
  const ends = new Ends();
  const alice = as_user(USERS.alice);
  const contenders: Contender[] = [];
  const missing: { name: string; why: string }[] = [];
  const contender = (name: string, ...command: string[]) => {
    const client = new Answering(ends, pinned(CPU, ...alice, ...command));
    contenders.push({ name, round: () => client.figure(quick ? 1000 : 3000) });
  };
  mkdirSync(FOLDER, { recursive: true });

  const flags = has("dbus-daemon") ? dbus_flags() : undefined;
  if (flags === undefined)
    missing.push({ name: "D-Bus with credentials", why: "apt-get install dbus-daemon libdbus-1-dev pkg-config" });
  else {
    const program = compile("peer-dbus", ...flags);
    const on_bus = ["env", `DBUS_SYSTEM_BUS_ADDRESS=unix:path=${BUS}`, program];
    writeFileSync(`${FOLDER}/bus.conf`, BUS_CONFIG);
    await start_server(ends, pinned(CPU, "dbus-daemon", "--nofork", "--print-address", `--config-file=${FOLDER}/bus.conf`), true);
    await start_server(ends, pinned(CPU, ...on_bus, "service", String(USERS.alice.uid)), true);
    contender("D-Bus with credentials", ...on_bus, "client", "Bind");
    contender("D-Bus, credentials cached", ...on_bus, "client", "BindCached");
  }

  const has_s6 = has("s6-fdholder-daemon") && has_header("s6/fdholder.h") && has_header("skalibs/tai.h");
  if (!has_s6) missing.push({ name: "s6-fdholderd", why: "apt-get install s6 libs6-dev skalibs-dev" });
  else {
    const program = compile("peer-fdholder", "-ls6", "-lskarnet");
    write_rule(USERS.root.uid, "STORE", "RETRIEVE");
    write_rule(USERS.alice.uid, "RETRIEVE");
    await start_server(ends, pinned(CPU, "s6-fdholder-daemon", "-1", "-i", RULES, HOLDER), true);
    execFileSync(program, [HOLDER, "store", "90"]);
    contender("s6-fdholderd warm", program, HOLDER, "warm");
    contender("s6-fdholderd cold", program, HOLDER, "cold");
  }
  return {
    title: "One call for a socket",
    how:
      "a client in C, warm; client, bus and service on one processor; the D-Bus service binds and listens as lowport does, " +
      `but keeps no record; s6-fdholderd hands out a socket that is bound already, and keeps no record; ` +
      `dbus-daemon ${version_of("dbus-daemon")}, s6 ${version_of("s6")}`,
    unit: "µs",
    baseline: contenders[0]?.name ?? "",
    contenders,
    missing,
    end: ends.end,
  };
}
