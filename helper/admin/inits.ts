/**
 * The three inits: what is written for each, and how it is asked to enable, start and stop the service. One table, so that install
 * and uninstall tell one story for all.
 */
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { find_program, must_run, run_program } from "./programs.js";
import { look_at, look_at_file, Refusal } from "./standing.js";

export const INIT_NAMES = ["systemd", "openrc", "sysv"] as const;
export type InitName = (typeof INIT_NAMES)[number];

/** A file of helper/service, where it goes, and its mode. */
export interface InitFile {
  readonly source: string;
  readonly path: string;
  readonly mode: number;
}

export interface Init {
  readonly name: InitName;
  readonly files: readonly InitFile[];
  /** What --hardened adds, where there is such a thing. */
  readonly hardened?: InitFile;
  /** The command by which logrotate has the log reopened. */
  readonly rotate: string;
  /** What it needs and is not here. */
  missing(): Promise<string | undefined>;
  /** Whether this init runs here. */
  detect(): boolean;
  is_enabled(): Promise<boolean>;
  is_running(): Promise<boolean>;
  /** Whether a service that was started has failed already; its start may be tried again and again. */
  is_failing(): Promise<boolean>;
  /** The last words of the helper since it was started, as far as they are kept. */
  last_words(): Promise<string>;
  /** Tells the init that its files have changed. */
  read_again(): Promise<void>;
  enable(): Promise<void>;
  disable(): Promise<void>;
  start(): Promise<void>;
  /** @param all the socket unit too, which clients that connect meanwhile would notice */
  restart(all: boolean): Promise<void>;
  reload(): Promise<void>;
  stop(): Promise<void>;
}

const SCRIPT = "/etc/init.d/lowport";
const UNITS = ["lowport.socket", "lowport.service"];
const UNIT_LINKS = ["multi-user.target.wants/lowport.service", "sockets.target.wants/lowport.socket"].map((link) =>
  join("/etc/systemd/system", link),
);
const succeeds = async (program: string, ...args: string[]) => (await run_program(program, args)).code === 0;
/** Whether the script is there. @throws Refusal if it is not root's, before anybody runs it */
const has_script = () => look_at_file(SCRIPT) !== undefined;
async function run_script(command: string): Promise<void> {
  if (!has_script()) throw new Error(`${SCRIPT} is missing`);
  await run(SCRIPT, command);
}
const run = async (program: string, ...args: string[]) => void (await must_run(program, ...args));

/** What of these programs is not here. The scripts cut capabilities with util-linux's setpriv; busybox has one that cannot. */
async function missing_programs(...names: string[]): Promise<string | undefined> {
  const missing = names.find((name) => find_program(name) === undefined);
  if (missing !== undefined) return `${missing} is missing`;
  const { code } = await run_program("/bin/sh", ["-c", "setpriv --bounding-set=-all --inh-caps=-all --no-new-privs /bin/true"]);
  return code === 0
    ? undefined
    : "setpriv of util-linux is missing (Debian: apt-get install util-linux; Alpine: apk add setpriv)";
}

/** The helper's own last words, for systemctl only says where they are. */
async function read_journal(since: number): Promise<string> {
  const own = ["_SYSTEMD_UNIT=lowport.service", "_TRANSPORT=stdout", `--since=@${since}`];
  return (await run_program("journalctl", [...own, "--lines=3", "--output=cat", "--quiet", "--no-pager"])).output;
}

/** Seconds since 1970 when units were started last. */
let started = 0;

/** Starts units again, in one job, over which systemd keeps the leases' sockets. */
async function start_units(...units: string[]): Promise<void> {
  started = Math.floor(Date.now() / 1000);
  const { code, output } = await run_program("systemctl", ["restart", ...units]);
  if (code === 0) return;
  const said = await read_journal(started);
  const why = said === "" ? "" : ` It said: ${said}.`;
  const kept = ` If it cannot start with what systemd keeps for it: systemctl stop ${UNITS.join(" ")} drops that, and all leases.`;
  throw new Error(`systemctl restart ${units.join(" ")}: exit ${code}: ${output.split("\n")[0]}${why}${kept}`);
}

const systemd: Init = {
  name: "systemd",
  files: UNITS.map((unit) => ({ source: unit, path: join("/etc/systemd/system", unit), mode: 0o644 })),
  hardened: { source: "hardened.conf", path: "/etc/systemd/system/lowport.service.d/hardened.conf", mode: 0o644 },
  rotate: "systemctl kill --kill-who=main --signal=USR1 lowport.service",
  missing: async () => (systemd.detect() ? undefined : "systemd is not running"),
  detect: () => existsSync("/run/systemd/system"),
  is_enabled: () => succeeds("systemctl", "is-enabled", "--quiet", ...UNITS),
  is_running: () => succeeds("systemctl", "is-active", "--quiet", "lowport.service"),
  is_failing: async () => {
    const { output } = await run_program("systemctl", ["show", "--property=NRestarts,ActiveState", "lowport.service"]);
    return /^NRestarts=[1-9]|^ActiveState=failed/m.test(output);
  },
  last_words: () => read_journal(started),
  read_again: () => run("systemctl", "daemon-reload"),
  enable: () => run("systemctl", "enable", "--quiet", ...UNITS),
  disable: async () => {
    await run_program("systemctl", ["disable", "--quiet", ...UNITS]); // fails for a unit whose file is gone
    for (const link of UNIT_LINKS) if (look_at(link) !== undefined) rmSync(link);
  },
  start: async () => {
    await run_program("systemctl", ["reset-failed", ...UNITS]); // which fails if there is nothing to reset
    try {
      await start_units(...UNITS); // a socket unit can be active though its socket is gone
    } catch {
      await systemd.stop(); // it may have been in the middle of a start of its own
      await start_units(...UNITS);
    }
  },
  restart: (all) => start_units(...(all ? UNITS : ["lowport.service"])),
  reload: () => run("systemctl", "reload", "lowport.service"),
  stop: async () => {
    const { output } = await run_program("systemctl", ["stop", ...UNITS]); // fails for a unit that systemd has not loaded
    if (await succeeds("systemctl", "is-active", "--quiet", ...UNITS)) throw new Error(`systemctl stop: ${output}`);
    await run_program("systemctl", ["reset-failed", ...UNITS]); // fails if there is nothing to reset
  },
};

/** Where rc-update enables it. */
const RUNLEVEL_LINK = "/etc/runlevels/default/lowport";

const openrc: Init = {
  name: "openrc",
  files: [{ source: "lowport.openrc", path: SCRIPT, mode: 0o755 }],
  rotate: "rc-service --quiet lowport rotate",
  missing: () => missing_programs("openrc-run", "rc-service", "rc-update", "supervise-daemon"),
  detect: () => existsSync("/run/openrc") && find_program("openrc-run") !== undefined,
  is_enabled: async () => existsSync(RUNLEVEL_LINK),
  is_running: async () => has_script() && succeeds("rc-service", "lowport", "status"),
  is_failing: async () => false, // its start has waited until it serves
  last_words: async () => "",
  read_again: () => run("rc-update", "-u"),
  enable: () => run("rc-update", "add", "lowport", "default"),
  disable: async () => {
    if (look_at(RUNLEVEL_LINK) !== undefined) rmSync(RUNLEVEL_LINK); // as rc-update does, which wants the script to be there
  },
  start: async () => {
    await run("rc-service", "lowport", "zap"); // it does not run, whatever OpenRC remembers
    await run("rc-service", "lowport", "start");
  },
  restart: () => run("rc-service", "lowport", "restart"),
  reload: () => run("rc-service", "lowport", "reload"),
  stop: async () => {
    if (has_script()) await run("rc-service", "lowport", "stop");
  },
};

/** The tools that link a script into the runlevels; each distribution has one of them. */
const LINKERS: readonly { program: string; enable: readonly string[]; disable: readonly string[] }[] = [
  { program: "update-rc.d", enable: ["lowport", "defaults"], disable: ["-f", "lowport", "remove"] },
  { program: "insserv", enable: ["lowport"], disable: ["-r", "lowport"] },
  { program: "chkconfig", enable: ["--add", "lowport"], disable: ["--del", "lowport"] },
];
function find_linker() {
  const found = LINKERS.find(({ program }) => find_program(program) !== undefined);
  if (found === undefined)
    throw new Refusal(`none of ${LINKERS.map(({ program }) => program).join(", ")} is there to enable ${SCRIPT}`);
  return found;
}
function is_linked(): boolean {
  return [2, 3, 4, 5].some((level) => {
    const folder = [`/etc/rc${level}.d`, `/etc/rc.d/rc${level}.d`].find((path) => existsSync(path));
    return folder !== undefined && readdirSync(folder).some((name) => /^S\d\dlowport$/.test(name));
  });
}

const sysv: Init = {
  name: "sysv",
  files: [{ source: "lowport.sysv", path: SCRIPT, mode: 0o755 }],
  rotate: `${SCRIPT} rotate`,
  missing: () => missing_programs(),
  detect: () => existsSync("/etc/init.d") && LINKERS.some(({ program }) => find_program(program) !== undefined),
  is_enabled: async () => is_linked(),
  is_running: async () => has_script() && succeeds(SCRIPT, "status"),
  is_failing: async () => false, // its start has waited until it serves
  last_words: async () => "",
  read_again: async () => undefined,
  enable: () => run(find_linker().program, ...find_linker().enable),
  disable: () => run(find_linker().program, ...find_linker().disable),
  start: () => run_script("start"),
  restart: () => run_script("restart"),
  reload: () => run_script("reload"),
  stop: async () => {
    if (has_script()) await run_script("stop");
  },
};

const INITS = { systemd, openrc, sysv };

/** All that may be written for an init. */
export function files_of(init: Init): InitFile[] {
  return init.hardened === undefined ? [...init.files] : [...init.files, init.hardened];
}

/** The init of that name. @throws Refusal */
export function init_of(name: string): Init {
  const init = INIT_NAMES.find((known) => known === name);
  if (init === undefined) throw new Refusal(`there is no init "${name}"; known are ${INIT_NAMES.join(", ")}`);
  return INITS[init];
}

/** @throws Refusal if another init runs here, or what this one needs is missing */
export async function refuse_init(init: Init): Promise<void> {
  const other = [systemd, openrc].find((known) => known !== init && known.detect());
  if (other !== undefined) throw new Refusal(`lowport cannot be installed for ${init.name}: ${other.name} is running here`);
  const missing = await init.missing();
  if (missing !== undefined) throw new Refusal(`lowport cannot be installed for ${init.name}: ${missing}`);
  if (init === sysv && !sysv.detect()) find_linker();
}

/** The init that runs here. @throws Refusal if none is known */
export function find_init(): Init {
  const found = INIT_NAMES.map((name) => INITS[name]).find((init) => init.detect());
  if (found === undefined)
    throw new Refusal(
      "neither systemd, nor OpenRC, nor SysV's update-rc.d, insserv or chkconfig is running here; say --init, or run lowportd by what you have",
    );
  return found;
}

/** A file of helper/service with its @NAMES@ filled in. */
export function fill_template(file: string, values: Readonly<Record<string, string>>): string {
  return readFileSync(file, "utf8").replaceAll(/@([A-Z_]+)@/g, (_, name: string) => {
    const value = values[name];
    if (value === undefined) throw new Error(`${file}: @${name}@ is not known`);
    return value;
  });
}
