/** `lowport audit verify`: whether the record is what the helper wrote. Asks no helper. */
import { lstatSync, type Stats } from "node:fs";
import { join } from "node:path";
import { errno_of } from "../../shared/errors.js";
import { EXIT } from "../../shared/protocol.js";
import { DEFAULT_AUDIT_LOG, find_rotated } from "../audit/log-file.js";
import { explain_unreadable } from "../audit/readable.js";
import { type Verdict, verify_audit } from "../verify.js";
import { define, read_number, Usage } from "./command.js";
import { count, type Paint, paint_for, printable } from "./terminal.js";

/** How often damage is looked at again while the log changes: a line may be half written, a file half renamed. */
const TRIES = 3;
const STDIN: ReadonlySet<string> = new Set(["-", "/dev/stdin"]);

const look_at = (path: string): Stats | undefined => (STDIN.has(path) ? undefined : lstatSync(path, { throwIfNoEntry: false }));

/** The files of the log at `path`, oldest first. @throws Usage if there is none */
async function files_of(path: string): Promise<string[]> {
  let rotated: string[] = [];
  try {
    rotated = await find_rotated(path);
  } catch (error) {
    if (!["ENOENT", "ENOTDIR"].includes(errno_of(error) ?? "")) throw error;
  }
  if (look_at(path) !== undefined) return [...rotated, path];
  if (rotated.length > 0) return rotated;
  throw new Usage(`there is no audit log ${path}: no such file; give the one that lowport.json names`, "ENOENT");
}

/** What the words name: files as they are, and of a folder its audit.log with what rotation made of it. @throws Usage */
async function expand(words: readonly string[]): Promise<string[]> {
  if (words.length === 0) return files_of(DEFAULT_AUDIT_LOG);
  const files: string[] = [];
  for (const word of words) {
    const stats = look_at(word);
    if (stats === undefined && !STDIN.has(word)) throw new Usage(`${word}: there is no such file`, "ENOENT");
    if (stats?.isDirectory() === true) files.push(...(await files_of(join(word, "audit.log"))));
    else if (stats === undefined || stats.isFile()) files.push(word);
    else throw new Usage(`${word} is no regular file, and is not read; "-" is stdin`, "EINVAL");
  }
  return files;
}

/** What would be another if the log had changed. */
function state_of(files: readonly string[]): string {
  const states = files.map((file) => {
    const stats = look_at(file);
    return [file, stats?.ino, stats?.size];
  });
  return JSON.stringify(states);
}

async function verify(words: readonly string[], reach: number): Promise<Verdict> {
  for (let tried = 1; ; tried++) {
    const files = await expand(words);
    const before = state_of(files);
    const verdict = await verify_audit(files, reach);
    if (verdict.damage.length === 0 || tried === TRIES || files.some((file) => STDIN.has(file))) return verdict;
    if (state_of(await expand(words)) === before) return verdict;
  }
}

function describe({ files, lines, first, head, damage }: Verdict, paint: Paint): string {
  const found = damage.map(
    ({ file, line, kind, reason }) => `${printable(file)}:${line}: ${paint("red", kind)}: ${printable(reason)}`,
  );
  const over = files.length > 1 ? ` in ${files.length} files` : "";
  const end = `${count(lines, "line")}${over}, records ${first ?? "none"} to ${head?.seq ?? "none"}, head ${head?.hash ?? "none"}`;
  return damage.length > 0
    ? [...found, `${paint(["red", "bold"], "DAMAGED")}: ${end}`].join("\n")
    : `${paint("green", "ok")}: ${end}`;
}

export const command = define({
  summary: "find an edited, removed, reordered or cut-off line (root, group adm)",
  words: "[FILE|FOLDER...]",
  options: {
    reach: { type: "string", value: "SEQ", help: "the log must go at least to that record, as status or syslog gave it" },
  },
  about: `Verifies the hash chain. Without a file it is ${DEFAULT_AUDIT_LOG} with the files that rotation has made of it, compressed
or not; of a folder it is its audit.log in the same way. Files are given oldest first; "-" is stdin. Each damage is told with its
file, line and kind: edited, removed, inserted, reordered, truncated. Exit 0: sound, 2: damaged.`,
  examples: [
    ["sudo lowport audit verify", "all that is recorded"],
    ["sudo lowport audit verify --reach 4711", "and that its end was not cut off"],
    ["xzcat old.xz | lowport audit verify -", "a file that was compressed in another way"],
  ],
  async run(words, values) {
    const reach = values.reach === undefined ? 0 : read_number(values.reach, "--reach", Number.MAX_SAFE_INTEGER);
    const data = await verify(words, reach).catch((error: unknown) => {
      throw explain_unreadable(error);
    });
    return { data, text: describe(data, paint_for()), exit: data.damage.length > 0 ? EXIT.foundWrong : EXIT.ok };
  },
});
