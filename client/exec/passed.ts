/**
 * `lowport exec --listen`: the sockets that a program starts with. Nothing of the program is watched but whether it lives, and
 * then whether anyone still has its sockets; that is how long their leases live.
 */
import { closeSync, fstatSync } from "node:fs";
import process from "node:process";
import { READABLE, unwatch, watch } from "../../shared/poll.js";
import { await_replies } from "../channel.js";
import { LowportError } from "../errors.js";
import type { BoundSocket } from "../types.js";
import { CHANNEL_FD, type Order, type Report } from "./messages.js";
import { exec_native } from "./native.js";
import { require_same_network } from "./notice.js";
import { label_of, ProgramLeases, type Wanted } from "./program-leases.js";

/** sd_listen_fds(3): SD_LISTEN_FDS_START. */
const FIRST_FD = 3;
/** Milliseconds for which a helper that has not started yet is waited for. */
const PATIENCE_MS = 10_000;

interface Passed {
  readonly socket: BoundSocket;
  readonly wanted: Wanted;
}

/** @throws LowportError */
async function obtain(leases: ProgramLeases, { sockets, program }: Order): Promise<Passed[]> {
  const passed: Passed[] = [];
  for (const { protocol, address, port } of sockets) {
    const wanted = { protocol, address, port, ipv6Only: false, reusePort: false, label: label_of(program) };
    const socket = await leases.obtain(wanted, PATIENCE_MS);
    require_same_network(socket, CHANNEL_FD);
    exec_native().setBlocking(socket.fd, 1); // as systemd passes them
    passed.push({ socket, wanted });
  }
  return passed;
}

/** Asks for all of them, tells what came of it, and stays while they are in use. */
export async function obtain_all(order: Order, tell: (report: Report, fds?: readonly number[]) => void): Promise<void> {
  await_replies(1); // stays alive though no reply is awaited
  let ended = false;
  const end_if_unused = () => {
    if (!ended || leases.any_held()) return;
    leases.close();
    process.exit(0);
  };
  const leases = new ProgramLeases(order.socket, order.hold, end_if_unused);
  const pidfd = exec_native().openProcess(order.pid);
  const on_end = () => {
    unwatch(pidfd);
    ended = true;
    end_if_unused();
  };
  try {
    const passed = await obtain(leases, order);
    const fds = passed.map(({ socket }) => socket.fd);
    tell({ pid: process.pid }, fds);
    const inodes = fds.map((fd) => fstatSync(fd).ino);
    for (const fd of fds) closeSync(fd);
    // On their way nobody has them. The other end closes when the program has begun and has them, or will never begin.
    watch(CHANNEL_FD, READABLE, () => {
      unwatch(CHANNEL_FD);
      closeSync(CHANNEL_FD);
      for (const [i, { socket, wanted }] of passed.entries())
        leases.keep(socket, wanted, inodes[i] as number, { process: order.pid, number: FIRST_FD + i });
      if (pidfd >= 0) watch(pidfd, READABLE, on_end);
      else on_end();
    });
  } catch (error) {
    if (!(error instanceof LowportError)) throw error;
    const { code, reason, syscall } = error;
    tell({ pid: process.pid, error: { code, reason, syscall } });
    leases.close();
    process.exit(0);
  }
}
