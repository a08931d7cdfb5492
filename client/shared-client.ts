/** One connection a process (or worker thread) for each control socket: the lifeline of all that `listen` asks for. */
import { Client, default_path } from "./client.js";

export { LowportError } from "./errors.js";

const clients = new Map<string, Client>();

/** @param path of the control socket; default: LOWPORT_SOCKET, else /run/lowport/lowport.sock */
export function shared_client(path?: string): Client {
  const wanted = path ?? default_path();
  const known = clients.get(wanted);
  if (known !== undefined) return known;
  const client = new Client(wanted);
  clients.set(wanted, client);
  return client;
}
