/**
 * Puts a granted socket in place of the program's own, so that the program cannot tell: at the same number and at every other
 * that the process has for the same socket (dup), with its options and modes, and in the epoll sets where it was registered.
 * What another process has of the old socket (it was made before a fork) stays the old one; answers.ts tells of it.
 */
import { closeSync } from "node:fs";
import { constants } from "node:os";
import { exec_native } from "./native.js";
import type { Asked } from "./notice.js";
import { closes_on_exec, fdinfo_of, link_of, numbers_of, socket_link } from "./processes.js";

const { EBADF } = constants.errno;

interface Registration {
  readonly epoll: number;
  readonly number: number;
  readonly events: number;
  readonly data: bigint;
}

/** The registrations of a socket in an epoll set, from its fdinfo (proc(5)). */
export function parse_epoll(epoll: number, fdinfo: string, inode: number): Registration[] {
  const line = /^tfd:\s*(\d+) events:\s*([0-9a-f]+) data:\s*([0-9a-f]+)\s+pos:\s*\d+ ino:\s*([0-9a-f]+)/gm;
  return [...fdinfo.matchAll(line)]
    .filter(([, , , , ino = ""]) => Number.parseInt(ino, 16) === inode)
    .map(([, number, events = "", data]) => ({
      epoll,
      number: Number(number),
      events: Number.parseInt(events, 16),
      data: BigInt(`0x${data}`),
    }));
}

function move({ epoll, number, events, data }: Registration, { thread, process, own }: Asked, granted: number): void {
  const native = exec_native();
  const set = native.takeFd(thread, process, epoll);
  if (set < 0) return;
  const [low, high] = [data & 0xffffffffn, data >> 32n].map(Number);
  native.moveEpoll(Int32Array.of(set, number, own, granted, events, low ?? 0, high ?? 0));
  closeSync(set);
}

/**
 * Replaces the socket; the program's bind still waits for its answer. What another of its threads has put at a number meanwhile
 * stays there.
 * @returns 0, or -errno, then the program has what it had; -EBADF: it has the socket no more
 */
export function put_in_place(listener: number, asked: Asked, granted: number): number {
  const native = exec_native();
  const { notice, thread, number, own, inode, blocking } = asked;
  const carried = native.carryOptions(own, granted);
  if (carried < 0) return carried;
  native.setBlocking(granted, blocking ? 1 : 0);
  const others: number[] = [];
  const registrations: Registration[] = [];
  for (const one of numbers_of(thread) ?? []) {
    const link = link_of(thread, one);
    if (link === "anon_inode:[eventpoll]") registrations.push(...parse_epoll(one, fdinfo_of(thread, one), inode));
    if (link === socket_link(inode) && one !== number) others.push(one);
  }
  const place = (at: number) => {
    const closes = closes_on_exec(fdinfo_of(thread, at)) ? 1 : 0;
    return link_of(thread, at) === socket_link(inode) ? native.placeFd(listener, notice, granted, at, closes) : -EBADF;
  };
  const placed = [number, ...others].map(place);
  if (placed.every((result) => result < 0)) return placed[0] as number;
  for (const registration of registrations) move(registration, asked, granted);
  return 0;
}
