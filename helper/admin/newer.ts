/**
 * sudo finds the installed lowportd before any other, so "install the new lowport, then `sudo lowportd install`" runs the old one. The
 * threat is an admin who believes that a security fix is in. So the installed one looks where npm puts a new one, and refuses
 * to install itself again if there is another; it never starts that other one by itself.
 */
import { existsSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { message_of } from "../../shared/errors.js";
import { VERSION } from "../../shared/protocol.js";
import { name_release } from "./release.js";
import { gather_sources, LIBRARY, PROGRAM, type Source } from "./sources.js";
import { Refusal } from "./standing.js";

/** Where `npm install --global` puts packages, by the prefix of its Node. */
const PREFIXES = ["/usr/local", "/usr"];

/** The programs of lowport that npm has installed. */
export function npm_programs(prefixes: readonly string[] = PREFIXES): string[] {
  return prefixes
    .map((prefix) => join(prefix, "lib/node_modules/lowport"))
    .filter((folder) => existsSync(join(folder, "package.json")));
}

/** Where npm's link at that path of a command leads, if npm has made one. */
export function by_npm(command: string): string | undefined {
  const program = join(dirname(dirname(command)), "lib/node_modules/lowport");
  const file = { lowport: "dist/client/lowport.sh", lowportd: "dist/helper/main.cjs" }[basename(command)];
  const found = file !== undefined && basename(dirname(command)) === "bin" && existsSync(join(program, file));
  return found ? join("../lib/node_modules/lowport", file) : undefined;
}

/** Whether this is the installed program, and not one that is to be installed. */
export const is_installed = (program = PROGRAM): boolean => program.startsWith(`${LIBRARY}/`);

/** The command by which a program is installed. */
export const install_command = (node: string, program: string): string => `sudo ${node} ${program}/dist/helper/main.cjs install`;

/** @returns whether the program there is other than these sources, and if that cannot be said, why */
function is_other(node: string, program: string, sources: readonly Source[]): boolean | string {
  try {
    return name_release(gather_sources(node, program)) !== name_release(sources);
  } catch (error) {
    return message_of(error);
  }
}

/** @param sources of the installed program. @throws Refusal if npm has another one, with the command that installs that */
export function refuse_if_newer(sources: readonly Source[], prefixes: readonly string[] = PREFIXES): void {
  for (const program of npm_programs(prefixes)) {
    const beside = join(program, "../../../bin/node");
    const node = existsSync(beside) ? beside : process.execPath;
    const other = is_other(node, program, sources);
    if (other === false) continue;
    const { version = "?" } = JSON.parse(readFileSync(join(program, "package.json"), "utf8")) as { version?: string };
    throw new Refusal(
      `this is the installed lowport ${VERSION} itself, and ${program} has another (${version}, or another Node). To install that: ` +
        `${install_command(node, program)}; to stay with this one: sudo npm uninstall --global lowport` +
        (typeof other === "string" ? `. That one cannot be installed as it is: ${other}` : ""),
    );
  }
}
