/** Real programs, unmodified, each as an unprivileged user on its real port under `lowport exec`. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { get } from "./client-app.js";
import { ask_udp, connects, exec, folder_of, lacks, no_supervisors, Program, tool } from "./exec-program.js";
import { start_helper, until } from "./helper-process.js";

await enter_box(import.meta.url);

const { alice } = USERS;
const RULES = [{ name: "web", users: ["alice"], protocols: ["tcp", "udp"], ports: [53, 80, 443, "800-899"] }];
const start = { rules: RULES };

test("python3 -m http.server 80, and the helper records who, what and which program", async (t) => {
  if (lacks(t, "python3", "python3")) return;
  const helper = await start_helper(t, start);
  writeFileSync("/run/hello.txt", "from python");
  const program = new Program(t, alice, exec("--", "/usr/bin/python3", "-m", "http.server", "80", "--directory", "/run"));
  assert.match(await program.serves(() => get(80)), /hello/);
  const { peer, params } = await helper.recorded("the bind", (line) => line.method === "bind");
  assert.equal(peer?.uid, alice.uid);
  assert.equal(params?.["label"], "python3");
});

test("nginx on 80 and [::]:443, reloaded by SIGHUP under requests, ended by SIGQUIT", async (t) => {
  if (lacks(t, "nginx", "nginx-light")) return;
  const helper = await start_helper(t, start);
  const folder = folder_of(alice, "nginx");
  const temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${folder}/${name};`);
  const config = (text: string) =>
    `daemon off; worker_processes 2; pid ${folder}/pid; error_log stderr;
     events { worker_connections 64; }
     http { access_log off; ${temp.join(" ")}
       server { listen 80; listen [::]:443 ipv6only=on; location / { return 200 "${text}"; } } }`;
  writeFileSync(`${folder}/conf`, config("first"));
  const program = new Program(t, alice, exec("--", "nginx", "-e", "stderr", "-c", `${folder}/conf`));
  assert.equal(await program.serves(() => get(80)), "first");
  assert.equal(await get(443, "::1"), "first");
  writeFileSync(`${folder}/conf`, config("second"));
  let lost = 0;
  let served = 0;
  const ask = () =>
    get(80).then(
      (text) => ((served += 1), text),
      () => ((lost += 1), ""),
    );
  program.process.kill("SIGHUP");
  await until("the reload has happened", async () => (await ask()) === "second");
  assert.deepEqual([lost, served > 0], [0, true]);
  // The reload finds its sockets open and binds nothing.
  assert.equal(helper.audit().filter((line) => line.method === "bind").length, 2);
  const { code, signal } = await program.kill("SIGQUIT");
  assert.deepEqual([code, signal], [0, null], program.stderr);
  await no_supervisors();
});

test("lighttpd on 80, as a daemon too", async (t) => {
  if (lacks(t, "lighttpd", "lighttpd")) return;
  await start_helper(t, start);
  const folder = folder_of(alice, "lighttpd");
  writeFileSync(`${folder}/index.html`, "from lighttpd");
  writeFileSync(
    `${folder}/conf`,
    `server.port = 80\nserver.document-root = "${folder}"\nindex-file.names = ("index.html")\nserver.pid-file = "${folder}/pid"\n`,
  );
  const program = new Program(t, alice, exec("--", "lighttpd", "-D", "-f", `${folder}/conf`));
  assert.equal(await program.serves(() => get(80)), "from lighttpd");
  await program.kill();
  await no_supervisors();
  const daemon = new Program(t, alice, exec("--", "lighttpd", "-f", `${folder}/conf`));
  assert.equal((await daemon.ended()).code, 0, daemon.stderr);
  assert.equal(await until("the daemon serves", () => get(80).catch(() => undefined)), "from lighttpd");
  tool("pkill", "-u", alice.name, "-x", "lighttpd");
  await no_supervisors();
});

test("haproxy on 80, which asks for SO_REUSEPORT where the rule does not allow it, and its reload", async (t) => {
  if (lacks(t, "haproxy", "haproxy")) return;
  await start_helper(t, start);
  const folder = folder_of(alice, "haproxy");
  const config = (text: string) => `defaults
  mode http
  timeout client 5s
  timeout connect 5s
  timeout server 5s
frontend web
  bind :80
  http-request return status 200 content-type text/plain string "${text}"
`;
  writeFileSync(`${folder}/conf`, config("first"));
  const program = new Program(t, alice, exec("--", "haproxy", "-W", "-db", "-f", `${folder}/conf`));
  assert.equal(await program.serves(() => get(80)), "first");
  writeFileSync(`${folder}/conf`, config("second"));
  // haproxy may lose a signal while it starts, without us too.
  const again = setInterval(() => program.stderr.includes("Reloading") || program.process.kill("SIGUSR2"), 1000);
  t.after(() => clearInterval(again));
  await program.printed(/Reloading HAProxy/);
  await until("the reload has happened", async () => (await get(80).catch(() => "")) === "second");
  await program.kill();
  await no_supervisors();
});

/** A question for the address of a name (RFC 1035). */
function dns_query(name: string): Buffer {
  const labels = name.split(".").map((label) => Buffer.concat([Buffer.of(label.length), Buffer.from(label)]));
  return Buffer.concat([Buffer.of(7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0), ...labels, Buffer.of(0, 0, 1, 0, 1)]);
}

test("dnsmasq on udp and tcp 53", async (t) => {
  if (lacks(t, "dnsmasq", "dnsmasq-base")) return;
  await start_helper(t, start);
  const program = new Program(
    t,
    alice,
    exec(
      "--",
      "dnsmasq",
      "-k",
      "-C",
      "/dev/null",
      "--log-facility=-",
      "--no-resolv",
      "--no-hosts",
      "-x",
      "",
      "-u",
      "alice",
      "-A",
      "/lowport.test/192.0.2.7",
    ),
  );
  const answer = await program.serves(() => ask_udp(53, dns_query("lowport.test")));
  assert.deepEqual([...answer.subarray(-4)], [192, 0, 2, 7]);
  assert.equal(await connects(53), true);
});

test("a static C program on 80", async (t) => {
  if (lacks(t, "cc", "build-essential")) return;
  await start_helper(t, start);
  const folder = folder_of(alice, "static");
  writeFileSync(
    `${folder}/serve.c`,
    `#include <netinet/in.h>
#include <stdio.h>
#include <unistd.h>
int main(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(80)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, 5) < 0) { perror("bind"); return 1; }
    for (;;) {
        int one = accept(fd, NULL, NULL);
        (void)!write(one, "HTTP/1.0 200 OK\\r\\n\\r\\nstatic", 25), close(one);
    }
}
`,
  );
  tool("cc", "-static", "-o", `${folder}/serve`, `${folder}/serve.c`);
  assert.match(tool("file", `${folder}/serve`), /statically linked/);
  const program = new Program(t, alice, exec("--", `${folder}/serve`));
  assert.equal(await program.serves(() => get(80)), "static");
});

test("a Go program on 443, which binds from a thread of its own", async (t) => {
  if (lacks(t, "go", "golang-go")) return;
  await start_helper(t, start);
  const folder = folder_of(alice, "go");
  writeFileSync(
    `${folder}/serve.go`,
    `package main
import ("fmt"; "net/http")
func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "from go") })
	fmt.Println(http.ListenAndServe(":443", nil))
}
`,
  );
  const env = ["env", `HOME=${folder}`, "CGO_ENABLED=0", "GOTOOLCHAIN=local"];
  tool("env", ...env.slice(1), "go", "build", "-o", `${folder}/serve`, `${folder}/serve.go`);
  const program = new Program(t, alice, exec("--", `${folder}/serve`));
  assert.equal(await program.serves(() => get(443)), "from go");
});

test("ruby's webrick on 80", async (t) => {
  if (lacks(t, "ruby", "ruby ruby-webrick")) return;
  await start_helper(t, start);
  const code = `require "webrick"; s = WEBrick::HTTPServer.new(Port: 80, AccessLog: []); s.mount_proc("/") { |q, r| r.body = "from ruby" }; s.start`;
  const program = new Program(t, alice, exec("--", "ruby", "-e", code));
  assert.equal(await program.serves(() => get(80)), "from ruby");
});

test("java on 443, and on an IPv4 address by an IPv6 socket", async (t) => {
  if (lacks(t, "java", "default-jdk-headless")) return;
  await start_helper(t, start);
  const folder = folder_of(alice, "java");
  writeFileSync(
    `${folder}/Serve.java`,
    `import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
public class Serve {
    public static void main(String[] args) throws Exception {
        for (var at : new InetSocketAddress[] {new InetSocketAddress(443), new InetSocketAddress("127.0.0.1", 80)}) {
            var server = HttpServer.create(at, 0);
            server.createContext("/", exchange -> {
                byte[] text = ("java saw " + exchange.getRemoteAddress().getAddress().getHostAddress()).getBytes();
                exchange.sendResponseHeaders(200, text.length);
                exchange.getResponseBody().write(text);
                exchange.close();
            });
            server.start();
        }
    }
}
`,
  );
  const program = new Program(t, alice, exec("--", "java", "-XX:TieredStopAtLevel=1", `${folder}/Serve.java`));
  assert.equal(await program.serves(() => get(443)), "java saw 127.0.0.1");
  assert.equal(await program.serves(() => get(80)), "java saw 127.0.0.1");
});

test("busybox httpd on 80, an IPv6 socket, in the foreground", async (t) => {
  if (lacks(t, "busybox", "busybox-static")) return;
  await start_helper(t, start);
  const folder = folder_of(alice, "busybox");
  writeFileSync(`${folder}/index.html`, "from busybox");
  const program = new Program(t, alice, exec("--", "busybox", "httpd", "-f", "-p", "80", "-h", folder));
  assert.equal(await program.serves(() => get(80)), "from busybox");
});
