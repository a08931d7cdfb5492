/**
 * What a command says: text for people or one JSON document on stdout, and what went wrong on stderr. A reader that has gone
 * (`lowport list | head -1`) is no error: nobody wants the rest.
 */
import { errno_of } from "../../shared/errors.js";
import type { Answer } from "./command.js";
import { printable, to_json } from "./terminal.js";

/** Writes all of it, as fast as the reader takes it. @returns false if the reader has gone. @throws what else goes wrong */
export function write_all(stream: NodeJS.WriteStream, text: string | Uint8Array): Promise<boolean> {
  // Said to the callback too; unheard it would end the process.
  if (stream.listenerCount("error") === 0) stream.on("error", () => undefined);
  return new Promise((resolve, reject) => {
    stream.write(text, (error) => {
      if (error === null || error === undefined) resolve(true);
      else if (["EPIPE", "ERR_STREAM_DESTROYED"].includes(errno_of(error) ?? "")) resolve(false);
      else reject(error);
    });
  });
}

/** Says an answer. */
export async function say({ data, text, complains }: Answer, json: boolean): Promise<void> {
  if (json) await write_all(process.stdout, `${to_json(data)}\n`);
  else if (complains !== true) await write_all(process.stdout, `${text}\n`);
  if (complains === true) await write_all(process.stderr, `lowport: ${printable(text)}\n`);
}

/** Says what went wrong. @param hint where to read more */
export async function say_error(error: unknown, hint: string, json: boolean): Promise<void> {
  const { message } = error as Error;
  if (json) await write_all(process.stdout, `${to_json({ error: { code: errno_of(error), message } })}\n`);
  await write_all(process.stderr, `lowport: ${printable(message)}${hint}\n`);
}
