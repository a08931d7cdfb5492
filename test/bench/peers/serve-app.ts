/**
 * One process with two http servers that differ only in how they came to listen: on 8080 by themselves, on 80 by lowport.
 * Says "ready" when both listen.
 */
import { createServer } from "node:http";
import { listen } from "../../../client/index.js";

const make = () => {
  const server = createServer((_, response) => response.end("hello\n"));
  server.keepAliveTimeout = 0; // none: a connection that waits for its turn is kept
  return server;
};
const ways = [await listen(make(), { port: 8080 }), await listen(make(), { port: 80 })].map(({ via }) => via);
if (ways.join(" ") !== "direct helper") throw new Error(`they listen in other ways than was meant: ${ways.join(" ")}`);
console.log("ready");
