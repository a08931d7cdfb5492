/**
 * `lowport exec --listen`: the sockets that a program starts with. Nothing of the program is watched but whether it lives, and
 * then whether anyone still has its sockets; that is how long their leases live.
 */
import { closeSync, fstatSync } from "node:fs";
import process from "node:process";
import { READABLE, unwatch, watch } from "../../shared/poll.js";
import { await_replies } from "../channel.js";
import { LowportError } from "../errors.js";
import { CHANNEL_FD, type Order, type Report } from "./messages.js";
import { exec_native } from "./native.js";
import { label_of, ProgramLeases } from "./program-leases.js";

/** sd_listen_fds(3): SD_LISTEN_FDS_START. */
const FIRST_FD = 3;

/** @returns the descriptors, which the leases do not need. @throws LowportError */
async function obtain(leases: ProgramLeases, { sockets, pid, program }: Order): Promise<number[]> {
  const fds: number[] = [];
  for (const [i, { protocol, address, port }] of sockets.entries()) {
    const wanted = { protocol, address, port, ipv6Only: false, reusePort: false, label: label_of(program) };
    const socket = await leases.obtain(wanted);
    exec_native().setBlocking(socket.fd, 1); // as systemd passes them
    leases.keep(socket, wanted, fstatSync(socket.fd).ino, { process: pid, number: FIRST_FD + i });
    fds.push(socket.fd);
  }
  return fds;
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
    const fds = await obtain(leases, order);
    tell({ pid: process.pid }, fds);
    for (const fd of [...fds, CHANNEL_FD]) closeSync(fd);
    if (pidfd >= 0) watch(pidfd, READABLE, on_end);
    else on_end();
  } catch (error) {
    if (!(error instanceof LowportError)) throw error;
    const { code, reason, syscall } = error;
    tell({ pid: process.pid, error: { code, reason, syscall } });
    leases.close();
    process.exit(0);
  }
}
