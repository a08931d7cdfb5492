/** A program as its user wrote it, which knows nothing of lowport. `fd`: it listens on the socket that systemd passes. */
import { writeSync } from "node:fs";
import { createServer } from "node:http";
import process from "node:process";

const server = createServer((_, response) => response.end("hello\n"));
server.listen(process.argv[2] === "fd" ? { fd: 3 } : 80, () => {
  writeSync(1, `${process.hrtime.bigint()}\n`);
  process.exit();
});
