/** `lowport doctor`: the same as `lowportd doctor`, for a user who does not know where lowportd is. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { NODE_FLAGS } from "../../shared/node-flags.js";
import { EXIT } from "../../shared/protocol.js";
import { define, FOR_ALL, take_words } from "./command.js";

export const command = define({
  summary: "is all as it should be, and if not what to do (as root it sees more)",
  words: "",
  options: {
    config: { type: "string", value: "FILE", help: "the configuration; default: /etc/lowport/lowport.json" },
    json: FOR_ALL.json,
  },
  about: "The checks that an admin would make by hand, each ok or with its cure. It changes nothing.",
  examples: [["sudo lowport doctor", "all checks"]],
  async run(words, { config, json }) {
    take_words(words, 0, 0);
    const helper = fileURLToPath(new URL("../../helper/main.cjs", import.meta.url));
    const options = [...(json === true ? ["--json"] : []), ...(config === undefined ? [] : ["--config", config])];
    // It may not be started with a stranger's environment.
    const env = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" };
    const { status, error } = spawnSync(process.execPath, [...NODE_FLAGS, helper, "doctor", ...options], {
      stdio: "inherit",
      env,
    });
    if (error !== undefined) throw error;
    return status ?? EXIT.bug;
  },
});
