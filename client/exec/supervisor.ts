/**
 * The process beside a program that `lowport exec` has started. It has the user's rights and no others, nothing of the
 * program's (no stdio, no folder, no pipe), and ends when the last of the program's processes has ended.
 * It must outlive them: with nobody to answer, the kernel says ENOSYS to a bind. So it ignores the signals that end a
 * program politely, and no fault in one answer ends it. It says that it is ready as soon as it can be asked, so that the
 * program need not wait for the rest of it, which is loaded at once all the same: an upgrade may replace its files.
 */
import process from "node:process";
import { native } from "../../shared/native.js";
import { CHANNEL_FD, type Order, type Report, read_message } from "./messages.js";

function tell(report: Report, fds: readonly number[] = []): void {
  native().send(CHANNEL_FD, Buffer.from(`${JSON.stringify(report)}\n`), Int32Array.from(fds), fds.length);
}

async function main(): Promise<void> {
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGPIPE"] as const)
    process.on(signal, () => undefined);
  const [order, [listener]] = await read_message<Order>(CHANNEL_FD, 1);
  process.title = `lowport exec, beside ${order.program}`;
  if (listener !== undefined) {
    // A fault must not become the program's: whoever waits for an answer gets the kernel's.
    process.on("uncaughtException", () => undefined);
    tell({ pid: process.pid });
    const { answer_binds } = await import("./answers.js");
    answer_binds(listener, order);
  } else {
    const { obtain_all } = await import("./passed.js");
    await obtain_all(order, tell);
  }
}

void main();
