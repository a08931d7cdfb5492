/**
 * The Node that a release gets a copy of. It must be whole in one file: a Node in parts (Debian's own has libnode.so) would change
 * under the service with the next upgrade of the system, and posix with it would no longer load.
 */
import { distrust } from "../trusted-path.js";
import { must_run } from "./programs.js";
import { look_at, Refusal } from "./standing.js";

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

/** @returns what to tell the admin about this Node. @throws Refusal if a release cannot run on it */
export async function refuse_node(file: string): Promise<string[]> {
  let variables: Variables = process.config.variables;
  if (file !== process.execPath) {
    if (look_at(file) === undefined) throw new Refusal(`--node: there is no ${file}`);
    const why = distrust(file);
    if (why !== undefined) throw new Refusal(`--node: ${why}`);
    variables = JSON.parse(await must_run(file, "-p", "JSON.stringify(process.config.variables)")) as Variables;
  }
  const why = judge_node(variables);
  if (why !== undefined) throw new Refusal(`${file} ${why}`);
  const shared = shared_libraries(variables);
  if (shared.length === 0) return [];
  return [
    `${file} uses libraries of the system (${shared.join(", ")}): after an upgrade of these, see that lowport still starts`,
  ];
}
