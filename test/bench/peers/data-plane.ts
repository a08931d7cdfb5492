/** What each request costs from then on: nothing with a passed socket, everything twice behind a proxy. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { USERS } from "../../e2e/box.js";
import { as_user } from "../../e2e/client-app.js";
import { until } from "../../e2e/helper-process.js";
import { type Comparison, type Figure, figure_of } from "../compare.js";
import { start_lowport } from "../daemons.js";
import { CPU, compile, has, OTHER_CPU, pinned, version_of } from "../machine.js";
import { Answering, type Context, Ends, FOLDER, node, start_server } from "./beside.js";

const CONNECTIONS = 32;
/** Milliseconds of load on one contender before it is another's turn. */
const SLICE_MS = 20;
/** Of so many slices of the server alone one is followed by a slice of each proxy: there it is not about one percent. */
const PROXIES_EACH = 3;
const ALWAYS = "1000000000";

const NGINX = `
daemon off; worker_processes 1; pid ${FOLDER}/nginx.pid; error_log stderr;
events { worker_connections 1024; }
http {
  access_log off; keepalive_requests ${ALWAYS}; keepalive_timeout 1h;
  client_body_temp_path ${FOLDER}/nginx-1; proxy_temp_path ${FOLDER}/nginx-2; fastcgi_temp_path ${FOLDER}/nginx-3;
  uwsgi_temp_path ${FOLDER}/nginx-4; scgi_temp_path ${FOLDER}/nginx-5;
  upstream app { server 127.0.0.1:8080; keepalive ${2 * CONNECTIONS}; keepalive_requests ${ALWAYS}; keepalive_timeout 1h; }
  server {
    listen 127.0.0.1:81;
    location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
}
`;

const HAPROXY = `
global
  nbthread 1
  maxconn 1024
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout http-keep-alive 1h
  http-reuse always
frontend low
  bind 127.0.0.1:82
  default_backend app
backend app
  server app 127.0.0.1:8080
`;

/** A process and its children. */
const family = (pid: number) => [pid, ...readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean)];

/** Seconds of processor time that processes have taken, all threads, to the nanosecond (unlike /proc/PID/stat). */
function processor_seconds(pids: readonly (number | string)[]): number {
  const threads = pids.flatMap((pid) =>
    readdirSync(`/proc/${pid}/task`).map((thread) => `/proc/${pid}/task/${thread}/schedstat`),
  );
  return threads.reduce((sum, file) => sum + Number(readFileSync(file, "utf8").split(" ")[0]), 0) / 1e9;
}

const accepts = (port: number) =>
  new Promise<boolean>((resolve) => {
    const socket = connect(port, "127.0.0.1", () => resolve(true)).on("error", () => resolve(false));
    socket.unref().on("connect", () => socket.destroy());
  });

export async function data_plane({ quick }: Context): Promise<Comparison> {
  const ends = new Ends();
  mkdirSync(FOLDER, { recursive: true });
  const load_program = compile("peer-http-load");
  await start_lowport(ends, "lowport");
  const servers = [await start_server(ends, pinned(CPU, ...as_user(USERS.alice), ...node("serve-app")), true)];
  const ports = new Map([
    ["direct bind", 8080],
    ["passed fd", 80],
  ]);
  const missing: { name: string; why: string }[] = [];
  for (const { name, port, config, run } of [
    { name: "nginx", port: 81, config: NGINX, run: ["nginx", "-e", "stderr", "-c", `${FOLDER}/nginx.conf`] },
    { name: "haproxy", port: 82, config: HAPROXY, run: ["haproxy", "-q", "-db", "-f", `${FOLDER}/haproxy.conf`] },
  ])
    if (has(name)) {
      writeFileSync(`${FOLDER}/${name}.conf`, config);
      servers.push(await start_server(ends, pinned(CPU, ...run), false));
      await until(`${name} listens`, () => accepts(port));
      ports.set(`behind ${name}`, port);
    } else missing.push({ name: `behind ${name}`, why: `apt-get install ${name}` });

  const load = new Answering(ends, pinned(OTHER_CPU, load_program, String(CONNECTIONS)));
  await load.ask("8080 1500"); // Node is three times as fast when it has compiled what it runs
  const names = [...ports.keys()];
  const pids = servers.flatMap(family);
  const rate = async (port: number | undefined) => {
    const before = processor_seconds(pids);
    const answered = Number(await load.ask(`${port} ${SLICE_MS}`));
    return answered / (processor_seconds(pids) - before);
  };
  let round = new Map<string, Figure>();
  /** A round of all of them in small slices, back and forth, so that one percent can be seen. */
  const measure = async () => {
    const rates = new Map<string, number[]>(names.map((name) => [name, []]));
    for (let i = 0; i < (quick ? 9 : 36); i++)
      for (const name of i % 2 === 0 ? names : names.toReversed())
        if (i % PROXIES_EACH === 0 || !name.startsWith("behind")) rates.get(name)?.push(await rate(ports.get(name)));
    round = new Map([...rates].map(([name, all]) => [name, figure_of(all)]));
  };
  return {
    title: "Requests over connections that are kept alive",
    how:
      `requests for a second of the processor's that server and proxy take together; ${CONNECTIONS} connections to one Node ` +
      `process, in slices of ${SLICE_MS} ms that take turns; proxies with one worker, connections to the server kept alive; ` +
      `the load on another processor; nginx ${version_of("nginx")}, haproxy ${version_of("haproxy")}`,
    unit: "requests/s",
    baseline: "direct bind",
    contenders: names.map((name, i) => ({
      name,
      round: async () => {
        if (i === 0) await measure();
        return round.get(name) ?? { p50: Number.NaN };
      },
    })),
    missing,
    targets: [{ of: "passed fd", least: 0.99 }],
    end: ends.end,
  };
}
