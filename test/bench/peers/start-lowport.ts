/** The program of start-direct.ts, with the client library. */
import { writeSync } from "node:fs";
import { createServer } from "node:http";
import process from "node:process";
import { listen } from "../../../client/index.js";

const server = createServer((_, response) => response.end("hello\n"));
await listen(server, { port: 80 });
writeSync(1, `${process.hrtime.bigint()}\n`);
process.exit();
