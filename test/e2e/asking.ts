/** Clients of every kind of server that the tests start, each over a connection of its own. */
import dgram from "node:dgram";
import { once } from "node:events";
import http2 from "node:http2";
import https from "node:https";
import type net from "node:net";
import { CERTIFICATE } from "./client-certificate.js";

/** What comes back on a connection to which "hello" was sent. */
export async function ask_raw(socket: net.Socket): Promise<string> {
  let text = "";
  socket.setEncoding("utf8").on("data", (part: string) => (text += part));
  socket.end("hello");
  await once(socket, "close");
  return text;
}

export function ask_https(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = https.get({ host: "127.0.0.1", port, ca: CERTIFICATE, agent: false }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (part: string) => (body += part));
      response.on("end", () => resolve(body));
    });
    request.on("error", reject);
  });
}

export async function ask_http2(url: string): Promise<string> {
  const session = http2.connect(url, { ca: CERTIFICATE });
  const stream = session.request({ ":path": "/" });
  let body = "";
  stream.setEncoding("utf8").on("data", (part: string) => (body += part));
  await once(stream, "end");
  session.close();
  await once(session, "close");
  return body;
}

/** The answer to one datagram. */
export async function ask_udp(port: number, host = "127.0.0.1", message: string | Buffer = "hello"): Promise<Buffer> {
  const socket = dgram.createSocket(host.includes(":") ? "udp6" : "udp4");
  socket.send(message, port, host);
  const [answer] = (await once(socket, "message")) as [Buffer];
  socket.close();
  return answer;
}
