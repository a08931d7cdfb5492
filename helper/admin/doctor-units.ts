/**
 * The doctor's checks of the service as the init has it: whether it is enabled and runs, and whether systemd runs it as install wrote
 * it. A drop-in can take away each protection of the unit, and the unit's own file stays as it was.
 */
import { distrust } from "../trusted-path.js";
import { type Result, tell, unknown, unless_wrong, wrong } from "./findings.js";
import { init_of } from "./inits.js";
import { must_run } from "./programs.js";
import type { InstallRecord } from "./record.js";

/** Drop-ins for all services, which a distribution brings. */
const OF_THE_SYSTEM = /^(\/usr)?\/lib\/systemd\/system\/(service|socket)\.d\//;

/** Asks systemd for properties of a unit. */
export type Show = (unit: string) => Promise<ReadonlyMap<string, string>>;

const show_unit: Show = async (unit) => {
  const text = await must_run("systemctl", "show", "--property=FragmentPath,DropInPaths,NeedDaemonReload", unit);
  return new Map(text.split("\n").map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]));
};

/** What systemd runs besides, or in place of, the units that install wrote; nothing if all is well or it is another init. */
export async function check_units({ init, files }: Pick<InstallRecord, "init" | "files">, show = show_unit): Promise<Result[]> {
  if (init !== "systemd") return [];
  const known = new Set(files.map(({ path }) => path));
  const found: Result[] = [];
  for (const unit of ["lowport.service", "lowport.socket"]) {
    const properties = await show(unit);
    const own = properties.get("FragmentPath") ?? "";
    if (!known.has(own))
      found.push(wrong(`systemd takes ${unit} from ${own || "nowhere"}`, "move that away, and sudo systemctl daemon-reload"));
    if (properties.get("NeedDaemonReload") === "yes")
      found.push(wrong(`systemd has not read ${unit} since it was changed`, "sudo systemctl daemon-reload"));
    for (const path of (properties.get("DropInPaths") ?? "").split(" ")) {
      if (path === "" || known.has(path) || OF_THE_SYSTEM.test(path)) continue;
      const why = distrust(path);
      found.push(
        why === undefined
          ? unknown(`${unit} is changed by ${path}, which install did not write`, `see that it should be: systemctl cat ${unit}`)
          : wrong(`${unit} is changed by ${path}, and ${why}`, `do so, and look at what it says: systemctl cat ${unit}`),
      );
    }
  }
  return found;
}

/** Whether the init starts the service at boot, and has it running now. */
export async function check_service({ init: name }: Pick<InstallRecord, "init">): Promise<readonly Result[]> {
  const init = init_of(name);
  const found: Result[] = [];
  if (!(await init.is_enabled())) found.push(wrong(`${name} does not start it at boot`, "enable it: sudo lowportd install"));
  if (!(await init.is_running()))
    found.push(wrong(`${name} says that it does not run`, `${tell("start", name)}, and look at its log`));
  return unless_wrong(found, `${name} starts it at boot, and has it running`);
}
