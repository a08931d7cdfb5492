/** What a grant costs, beside the same work in C and beside other ways between processes. */
import { HARDENED_FLAGS } from "../../shared/node-flags.js";
import type { Comparison } from "./compare.js";
import { load, loaded, start_lowport, start_node_alone, start_reference } from "./daemons.js";
import { type Context, Ends } from "./peers/beside.js";
import { bus_calls } from "./peers/bus-calls.js";

const SAME_CPU = "client (in C) and daemon on one processor";
const AS_SHIPPED = "lowport as shipped: 10,000 rules, all limits, audit chain, sandbox";

/** What no program in Node can be faster than. */
const NODE_ALONE = "Node alone";
const ALONE = `${NODE_ALONE} makes the system calls and the records of a grant in a hundred lines, without rules, limits, leases, errors or sandbox`;

/** A grant on an open connection. */
export async function warm_grant(context: Context): Promise<Comparison> {
  const ends = new Ends();
  const count = context.quick ? 1000 : 4000;
  const c = await start_reference(ends, "C with the same record");
  const lowport = await start_lowport(ends, "lowport");
  const hardened = await start_lowport(ends, "lowport, hardened", { flags: HARDENED_FLAGS });
  const alone = await start_node_alone(ends, NODE_ALONE);
  const jitless = await start_node_alone(ends, `${NODE_ALONE}, hardened`, HARDENED_FLAGS);
  const buses = await bus_calls(context);
  const own = [c, lowport, hardened, alone, jitless].map((daemon) => loaded(daemon, "warm", count));
  return {
    title: "One call for a socket",
    how: `a warm connection; ${SAME_CPU}. ${AS_SHIPPED}. ${ALONE}. The others: ${buses.how}`,
    unit: "µs",
    baseline: c.name,
    contenders: [...own, ...buses.contenders],
    missing: buses.missing ?? [],
    targets: [
      { of: "lowport", most: 1.25 },
      { of: "lowport", to: "lowport", what: "p99", most: 3 },
      { of: "lowport, hardened", to: "lowport", most: 1.5 },
      { of: "D-Bus with credentials", to: "lowport", least: 2 },
      { of: "D-Bus, credentials cached", to: "lowport", least: 2 },
    ],
    end: async () => {
      await buses.end?.();
      await ends.end();
    },
  };
}

/** A grant with the connection made for it. */
export async function new_connection({ quick }: Context): Promise<Comparison> {
  const ends = new Ends();
  const count = quick ? 400 : 1600;
  const c = await start_reference(ends, "C with the same record");
  const lowport = await start_lowport(ends, "lowport");
  const alone = await start_node_alone(ends, NODE_ALONE);
  const daemons = [c, lowport, alone];
  for (const daemon of daemons) await load(daemon, "connect", 2000);
  return {
    title: "A grant on a new connection",
    how: `from connect() to the socket's arrival; ${SAME_CPU}; all record the connection too, and ask the kernel whose it is`,
    unit: "µs",
    baseline: c.name,
    contenders: daemons.map((daemon) => loaded(daemon, "connect", count)),
    targets: [{ of: "lowport", most: 1.4 }],
    end: ends.end,
  };
}

/** Ten clients that do not wait. */
export async function pipelined({ quick }: Context): Promise<Comparison> {
  const ends = new Ends();
  const count = quick ? 5000 : 20_000;
  const daemons = [
    await start_reference(ends, "C with the same record"),
    await start_lowport(ends, "lowport"),
    await start_node_alone(ends, NODE_ALONE),
    await start_reference(ends, "C, fsync of each record", "fsync"),
    await start_lowport(ends, "lowport, fsync", { durability: "fsync" }),
  ];
  for (const daemon of daemons) await load(daemon, "pipelined", 10, 1000);
  return {
    title: "Ten connections, sixteen requests at once on each",
    how: "the clients on another processor than the daemon; the audit logs are on the machine's disk; Node alone writes one for each read",
    unit: "grants/s",
    baseline: "C with the same record",
    contenders: daemons.map((daemon) => ({
      name: daemon.name,
      round: async () => ({
        p50: (await load(daemon, "pipelined", 10, daemon.name.startsWith("C, fsync") ? count / 20 : count))[0] ?? Number.NaN,
      }),
    })),
    targets: [
      { of: "lowport", least: 1 },
      { of: "lowport, fsync", to: "lowport", least: 0.8 },
    ],
    end: ends.end,
  };
}
