/**
 * The Node that a release gets a copy of. It must be whole in one file: a Node in parts (Debian's own has libnode.so) would change
 * under the service with the next upgrade of the system, and posix with it would no longer load.
 */
import { realpathSync } from "node:fs";
import { message_of } from "../../shared/errors.js";
import { distrust } from "../trusted-path.js";
import { must_run } from "./programs.js";
import { Refusal } from "./standing.js";

/** process.config.variables: system libraries that a Node is linked to. */
type Variables = Record<string, unknown>;

/** What is wrong with a Node of these build variables, or undefined. */
export function judge_node(variables: Variables): string | undefined {
  if (String(variables.node_shared) !== "true") return undefined;
  return (
    "is only a part of Node, whose rest (libnode.so) changes with the system's packages. Take one that is whole, from nodejs.org or " +
    "`npm install --global node`, and name it with --node FILE; posix must be built for the same major version"
  );
}

/** The system's libraries that a Node shares and that an upgrade of the system may change. */
export function shared_libraries(variables: Variables): string[] {
  return Object.entries(variables).flatMap(([name, value]) => {
    const library = /^node_shared_(\w+)$/.exec(name)?.[1];
    return library !== undefined && String(value) === "true" ? [library] : [];
  });
}

/** A Node that a release can run on. */
export interface Node {
  readonly version: string;
  /** What the admin should know about it. */
  readonly notes: readonly string[];
}

/** @throws Refusal if a release cannot run on it */
export async function judge_file(file: string): Promise<Node> {
  let [version, variables]: [string, Variables] = [process.version, process.config.variables];
  if (file !== process.execPath) {
    const why = distrust(file);
    if (why !== undefined)
      throw new Refusal(`--node: ${why}, or take a Node that is root's alone, as a distribution installs it`);
    const said = await must_run(file, "-p", "JSON.stringify([process.version, process.config.variables])");
    [version, variables] = JSON.parse(said) as [string, Variables];
  }
  const why = judge_node(variables);
  if (why !== undefined) throw new Refusal(`${file} ${why}`);
  const shared = shared_libraries(variables);
  const note = `${file} uses libraries of the system (${shared.join(", ")}): after an upgrade of these, see that lowport still starts`;
  return { version, notes: shared.length === 0 ? [] : [note] };
}

/** The file that a path means, links followed. @throws Refusal if there is none */
export function find_node(path: string): string {
  try {
    return realpathSync(path);
  } catch (error) {
    throw new Refusal(`--node: ${path}: ${message_of(error)}`);
  }
}
