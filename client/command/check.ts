/** `lowport check`: what the policy says to a port, without taking it. */
import { isIP } from "node:net";
import { EXIT } from "../../shared/protocol.js";
import { define, read_number, SOCKET, take_words, Usage, with_helper } from "./command.js";
import { paint_for, printable } from "./terminal.js";
import { read_who, Users, WHO } from "./users.js";

export const command = define({
  summary: "may I have it, by which rule, and if not what is nearest",
  words: "PROTOCOL PORT [ADDRESS]",
  options: {
    uid: { ...WHO.uid, help: "ask for that user, by number (operators)" },
    user: { ...WHO.user, help: "ask for that user, by name (operators)" },
    "ipv6-only": { type: "boolean", help: "a socket that IPv4 does not reach" },
    ...SOCKET,
  },
  about:
    "PROTOCOL is tcp or udp, ADDRESS an IP address of this host. Without an address it is about all of them, IPv6 and IPv4, which is\nwhat a program asks for that names none. Nothing is taken. Exit 0: allowed, 1: not allowed.",
  examples: [
    ["lowport check tcp 443", "may I have port 443"],
    ["lowport check udp 53 10.0.0.1 --user www-data", "may www-data have that, and by which rule"],
  ],
  async run(words, values) {
    const [protocol, port, address] = take_words(words, 2, 3);
    if (protocol !== "tcp" && protocol !== "udp") throw new Usage(`the protocol is tcp or udp, not "${protocol}"`);
    if (address !== undefined && isIP(address) === 0) throw new Usage(`"${address}" is no IP address`);
    const uid = read_who(values);
    const params = {
      protocol,
      port: read_number(port, "the port", 65_535, 1),
      ipv6Only: values["ipv6-only"] ?? false,
      ...(address === undefined ? {} : { address }),
      ...(uid === undefined ? {} : { uid }),
    } as const;
    const data = await with_helper(values, (client) => client.call("check", params));
    const paint = paint_for();
    const verdict = data.allowed ? paint("green", "allowed") : paint("red", "not allowed");
    return { data, text: `${verdict}: ${name_uids(data.reason)}`, exit: data.allowed ? EXIT.ok : EXIT.refused };
  },
});

/** The helper's sentence, with the user's name beside the number. */
function name_uids(reason: string): string {
  const users = new Users();
  return printable(reason).replace(/\buid (\d+) \(groups /, (_, uid: string) => `uid ${users.describe(Number(uid))} (groups `);
}
