/** `lowport revoke`: takes a socket back. */
import { EXIT } from "../../shared/protocol.js";
import { define, SOCKET, take_words, with_helper } from "./command.js";
import { printable } from "./terminal.js";

export const command = define({
  summary: "take a socket back from everyone who has a copy (operators)",
  words: "LEASE",
  options: SOCKET,
  about: "LEASE is as `lowport list` shows it. Connections that are established live on; the program cannot undo it.",
  examples: [["lowport revoke 4f1a2b3c4d5e6f70", "take that socket back"]],
  async run(words, values) {
    const [lease = ""] = take_words(words, 1, 1);
    const data = await with_helper(values, (client) => client.call("revoke", { lease }));
    return { data, text: `revoked ${printable(lease)}`, exit: EXIT.ok };
  },
});
