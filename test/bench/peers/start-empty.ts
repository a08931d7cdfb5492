/** The program of start-direct.ts, which imports one file more, with nothing in it: what a library cannot take less than. */
import { writeSync } from "node:fs";
import { createServer } from "node:http";
import process from "node:process";
import "./empty.js";

const server = createServer((_, response) => response.end("hello\n"));
server.listen(80, () => {
  writeSync(1, `${process.hrtime.bigint()}\n`);
  process.exit();
});
