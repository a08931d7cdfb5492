/**
 * A running program that listens over and over. For each line with a number on its input it does so that many times and
 * answers the nanoseconds of each, from the call until "listening"; closing is not part of it.
 *
 *   listen-app.js direct|register|lowport|bind PORT
 *
 * direct: server.listen; register: the same, where that is lowport's (--import lowport/register); lowport: the client library;
 * bind: what the client library asks of the helper, alone.
 */
import { closeSync } from "node:fs";
import { createServer, type Server } from "node:net";
import process from "node:process";
import { createInterface } from "node:readline";
import { Client, listen } from "../../../client/index.js";

const [mode = "", port_text] = process.argv.slice(2);
const port = Number(port_text);
const client = Client.shared();

/** Nanoseconds of one listen of a server. */
async function time_listen(start: (server: Server) => unknown): Promise<bigint> {
  const server = createServer();
  const [took, started] = await new Promise<[bigint, unknown]>((resolve, reject) => {
    let from = 0n;
    let starting: unknown;
    server.once("error", reject).once("listening", () => resolve([process.hrtime.bigint() - from, starting]));
    from = process.hrtime.bigint();
    starting = start(server);
    if (starting instanceof Promise) starting.catch(reject);
  });
  await started;
  await new Promise((resolve) => server.close(resolve));
  return took;
}

/** Nanoseconds of asking the helper alone. */
async function time_bind(): Promise<bigint> {
  const from = process.hrtime.bigint();
  const socket = await client.bind({ protocol: "tcp", port });
  const took = process.hrtime.bigint() - from;
  closeSync(socket.fd);
  await socket.release();
  return took;
}

const ways: Record<string, () => Promise<bigint>> = {
  direct: () => time_listen((server) => server.listen(port)),
  register: () => time_listen((server) => server.listen(port)),
  lowport: () => time_listen((server) => listen(server, { port })),
  bind: time_bind,
};
const way = ways[mode];
if (way === undefined) throw new Error(`what is "${mode}"?`);

for await (const line of createInterface({ input: process.stdin })) {
  const samples: bigint[] = [];
  for (let i = 0; i < Number(line); i++) {
    samples.push(await way());
    if (mode !== "direct") await client.call("status", {}); // so that the helper has dealt with the release
  }
  console.log(samples.join(" "));
}
