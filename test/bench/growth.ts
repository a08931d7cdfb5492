/** What does not grow: a grant costs the same however much the helper has in it. */
import { execFileSync } from "node:child_process";
import { appendFileSync, chownSync, closeSync, fsyncSync, openSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { FIRST_PREV, seal } from "../../shared/chain.js";
import { REPOSITORY, USERS } from "../e2e/box.js";
import type { Comparison } from "./compare.js";
import { keep_open, loaded, start_lowport } from "./daemons.js";
import { CPU, pinned } from "./machine.js";
import { type Context, ENV, Ends } from "./peers/beside.js";

const LINES_AT_ONCE = 10_000;

/** Writes an audit log as the helper would. */
export function fill_log(file: string, lines: number): void {
  let prev = FIRST_PREV;
  let text = "";
  const peer = { pid: 1234, uid: USERS.alice.uid, gid: USERS.alice.gid, groups: USERS.alice.groups };
  const params = { protocol: "tcp", port: 443 };
  const decided = { params, decision: "allow", rule: "bench", lease: "0123456789abcdef", durationUs: 20 };
  for (let seq = 1; seq <= lines; seq++) {
    const time = new Date(1_790_000_000_000 + seq).toISOString();
    const record = { seq, time, event: "call", peer, conn: 1, method: "bind", id: seq, ...decided, prev };
    const { line, hash } = seal(JSON.stringify(record));
    text += `${line}\n`;
    prev = hash;
    if (seq % LINES_AT_ONCE === 0 || seq === lines) {
      appendFileSync(file, text, { mode: 0o600 });
      text = "";
    }
  }
  chownSync(file, USERS.lowport.uid, USERS.lowport.gid);
  const fd = openSync(file, "r");
  fsyncSync(fd); // or the disk is busy with it while other things are measured
  closeSync(fd);
}

export const log_lines = (quick: boolean) => (quick ? 100_000 : 1_000_000);

export async function growth({ quick }: Context): Promise<Comparison> {
  const ends = new Ends();
  const count = quick ? 500 : 2000;
  const lines = log_lines(quick);
  const small = await start_lowport(ends, "one rule, nothing else", { rules: 0 });
  const rules = await start_lowport(ends, "10,000 rules");
  const idle = await start_lowport(ends, "1,000 idle connections", { rules: 0 });
  const leases = await start_lowport(ends, "10,000 leases", { rules: 0 });
  const log = await start_lowport(ends, `${lines.toLocaleString("en")} audit lines`, {
    rules: 0,
    fill_log: (file) => fill_log(file, lines),
  });
  await keep_open(ends, idle, "idle", 1000);
  await keep_open(ends, leases, "hold", 10_000);
  const states = [rules, idle, leases, log];
  return {
    title: "A grant, and how much the helper has in it",
    how: "a warm connection; client and helper on one processor",
    unit: "µs",
    baseline: small.name,
    contenders: [small, ...states].map((daemon) => loaded(daemon, "warm", count)),
    targets: states.map(({ name }) => ({ of: name, most: 1.1 })),
    end: ends.end,
  };
}

/** `lowport audit verify`, from its start to its end. */
export async function verify({ quick }: Context): Promise<Comparison> {
  const lines = log_lines(quick);
  const file = join(process.env["LOWPORT_BENCH_DISK"] ?? "/run", "verify.log");
  fill_log(file, lines);
  const [program = "", ...args] = pinned(CPU, "sh", join(REPOSITORY, "dist/client/lowport.sh"), "audit", "verify", file);
  return {
    title: "Verifying the audit log",
    how: `lowport audit verify of ${lines.toLocaleString("en")} lines, its own start included`,
    unit: "lines/s",
    baseline: "200,000 lines/s",
    contenders: [
      { name: "200,000 lines/s", round: () => ({ p50: 200_000 }) },
      {
        name: "lowport audit verify",
        round: () => {
          const from = performance.now();
          execFileSync(program, args, { cwd: "/", env: ENV });
          return { p50: (lines / (performance.now() - from)) * 1000 };
        },
      },
    ],
    targets: [{ of: "lowport audit verify", least: 1 }],
    rounds: 3,
  };
}
