/** One connection a process (or worker thread) for each control socket: the lifeline of all that `listen` asks for. */
import { Client } from "./client.js";

const clients = new Map<string, Client>();

/** @param path of the control socket; default: LOWPORT_SOCKET, else /run/lowport/lowport.sock */
export function shared_client(path?: string): Client {
  const wanted = new Client(path);
  const known = clients.get(wanted.path);
  if (known !== undefined) return known;
  clients.set(wanted.path, wanted);
  return wanted;
}
