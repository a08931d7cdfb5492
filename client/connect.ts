/** The first thing that a client does: it connects and sees that the helper answers. */
import { Client } from "./client.js";
import type { ConnectOptions } from "./types.js";

/**
 * Connects to the helper. The connection is the lifeline of the sockets that are granted over it.
 * @throws LowportError ENOENT, ECONNREFUSED or EACCES, which says what to start or which group to join; the signal's reason
 */
export async function connect({ socket, signal, timeout }: ConnectOptions = {}): Promise<Client> {
  const client = new Client(socket);
  try {
    await client.call("status", {}, { signal, timeout });
    return client;
  } catch (error) {
    client.close();
    throw error;
  }
}
