/**
 * The program that client-app.ts starts as some user: runs a function that it is given as text, with the client library as
 * an app has it. It makes nothing that keeps the process alive, so that what does is the library's or the app's own.
 */
import child_process from "node:child_process";
import cluster from "node:cluster";
import dgram from "node:dgram";
import events from "node:events";
import fs from "node:fs";
import http from "node:http";
import http2 from "node:http2";
import https from "node:https";
import net from "node:net";
import process from "node:process";
import { createInterface } from "node:readline";
import tls from "node:tls";
import { fileURLToPath } from "node:url";
import worker_threads from "node:worker_threads";
import * as lowport from "../../client/index.js";

const node = { child_process, cluster, dgram, events, fs, http, http2, https, net, process, tls, worker_threads };

/** Tells the test. In one write, because several processes may share the pipe. */
function say(event: string, data: unknown = null): void {
  fs.writeSync(1, `${JSON.stringify({ event, data, pid: process.pid })}\n`);
}

/** What a test can see of an error. */
function describe_error(error: unknown): Record<string, unknown> {
  const { name, message, stack: _, cause: __, ...rest } = error as Error & Record<string, unknown>;
  return { ...rest, name, message, lowport: error instanceof lowport.LowportError };
}

const heard_words: string[] = [];
let words: events | undefined;

/** Waits until the test tells this word. Only this waiting keeps the process alive, not that more could be told. */
async function heard(word: string): Promise<void> {
  if (words === undefined) {
    const emitter = new events.EventEmitter();
    words = emitter;
    createInterface({ input: process.stdin }).on("line", (line) => {
      heard_words.push(line);
      emitter.emit("word");
    });
  }
  const stdin = process.stdin as unknown as net.Socket;
  stdin.ref();
  while (!heard_words.includes(word)) await events.once(words, "word");
  stdin.unref();
  heard_words.splice(heard_words.indexOf(word), 1);
}

/** Numbers of the descriptors that this process has. */
function open_fds(): number[] {
  return fs
    .readdirSync("/proc/self/fd")
    .map(Number)
    .filter((fd) => fs.existsSync(`/proc/self/fd/${fd}`) || fs.existsSync(`/proc/self/fdinfo/${fd}`));
}

const tools = { lowport, node, say, heard, describe_error, open_fds, main: fileURLToPath(import.meta.url) };
/** What a program has to work with; `arg` is what the test gave it. */
export type Context<A> = typeof tools & { readonly arg: A };
export type Program<A> = (context: Context<A>) => unknown;

const [source, arg] = process.argv.slice(2);
if (source !== undefined) {
  const { default: program } = (await import(`data:text/javascript,export default ${encodeURIComponent(source)}`)) as {
    default: Program<unknown>;
  };
  await program({ ...tools, arg: JSON.parse(arg ?? "null") });
}
