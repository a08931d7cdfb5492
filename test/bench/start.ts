/** How soon the helper is there, and how much of the machine it takes while it waits. */
import type { ChildProcess } from "node:child_process";
import process from "node:process";
import { HARDENED_FLAGS } from "../../shared/node-flags.js";
import type { Comparison, Contender } from "./compare.js";
import { median } from "./compare.js";
import { kill, load, lowport_command, memory, type State, start_lowport, start_ready } from "./daemons.js";
import { fill_log, log_lines } from "./growth.js";
import { CPU, pinned } from "./machine.js";
import { type Context, Ends } from "./peers/beside.js";

/** A Node with nothing to do, that says when it is there. */
const BARE = "require('node:fs').writeSync(3,'.');require('node:fs').closeSync(3);setInterval(()=>{},1e6)";
const bare_command = () => pinned(CPU, process.execPath, "-e", BARE);

/** From the start of the process until it says that it is ready. */
export function start_to_ready({ quick }: Context): Comparison {
  const contender = (name: string, command: () => readonly string[]): Contender => {
    const its_command = command();
    return {
      name,
      round: async () => {
        const from = performance.now();
        const child = await start_ready(its_command);
        const took = performance.now() - from;
        await kill(child);
        return { p50: took };
      },
    };
  };
  const helper = (name: string, state: State) => contender(name, () => lowport_command(`start of ${name}`, state).command);
  const lines = log_lines(quick);
  const full = `lowport with ${lines.toLocaleString("en")} audit lines`;
  return {
    title: "From its start until it is ready",
    how: "sandbox and self-check included; all on one processor; the service's rules are 10 here, and 10,000 where it says so",
    unit: "ms",
    baseline: "bare node",
    contenders: [
      contender("bare node", bare_command),
      helper("lowport", { rules: 10 }),
      helper("lowport, hardened", { rules: 10, flags: HARDENED_FLAGS }),
      helper("lowport with 10,000 rules", {}),
      helper(full, { rules: 10, fill_log: (file) => fill_log(file, lines) }),
    ],
    targets: [
      { of: "lowport", most: 1.7 },
      { of: full, to: "lowport", most: 1.1 },
    ],
  };
}

/** The first request after the start, and the same request later, at the pace of a helper's life. */
export function first_request(): Comparison {
  const samples: { first: number; steady: number }[] = [];
  const { command, socket, log } = lowport_command("first request", { rules: 10 });
  return {
    title: "The first request after the start",
    how: "`check`, which runs the way of a grant up to the bind, on a new connection and then every 5 ms; steady: the median of 40 later ones",
    unit: "ms",
    baseline: "steady",
    contenders: [
      {
        name: "steady",
        round: async () => {
          const child = await start_ready(command);
          const all = await load({ name: "", socket, log, process: child }, "ask", 60, 5);
          await kill(child);
          samples.push({ first: (all[0] ?? 0) / 1e6, steady: median(all.slice(-40)) / 1e6 });
          return { p50: samples.at(-1)?.steady ?? 0 };
        },
      },
      { name: "the first", round: () => ({ p50: samples.at(-1)?.first ?? 0 }) },
      { name: "steady + 0.3 ms", round: () => ({ p50: (samples.at(-1)?.steady ?? 0) + 0.3 }) },
    ],
    targets: [{ of: "the first", to: "steady + 0.3 ms", most: 1 }],
  };
}

/** Resident memory. */
export async function memory_use({ quick }: Context): Promise<Comparison> {
  const ends = new Ends();
  const started = async (command: readonly string[]): Promise<ChildProcess> => {
    const child = await start_ready(command);
    ends.after(() => kill(child));
    return child;
  };
  const bare = await started(bare_command());
  const helper = await started(lowport_command("memory", { rules: 10 }).command);
  const hardened = await started(lowport_command("memory, hardened", { rules: 10, flags: HARDENED_FLAGS }).command);
  const idle = memory(helper);
  const burst = await start_lowport(ends, "memory after a burst", { rules: 10 });
  const requests = quick ? 20_000 : 100_000;
  await load(burst, "pipelined", 10, requests / 2);
  const after = `lowport after ${requests.toLocaleString("en")} requests`;
  return {
    title: "Resident memory",
    how: "VmRSS of a process that waits; ten connections for the burst",
    unit: "MB",
    baseline: "bare node",
    contenders: [
      { name: "bare node", round: () => ({ p50: memory(bare) }) },
      { name: "lowport", round: () => ({ p50: idle }) },
      { name: "lowport, hardened", round: () => ({ p50: memory(hardened) }) },
      { name: after, round: () => ({ p50: memory(burst.process) }) },
    ],
    targets: [
      { of: "lowport", most: 1.15 },
      { of: after, to: "lowport", most: 1.5 },
    ],
    rounds: 1,
    end: ends.end,
  };
}
