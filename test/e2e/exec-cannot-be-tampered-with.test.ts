/**
 * A program that changes the address while its bind waits, or whose descriptor becomes another: it never has more than what
 * was asked for, decided and recorded.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { exec, folder_of, lacks, run, tool } from "./exec-program.js";
import { start_helper } from "./helper-process.js";

await enter_box(import.meta.url);

const { alice } = USERS;

/**
 * A thread that flips the port in memory as fast as it can, between one that is allowed, one that is not, and a free one. On a busy
 * machine it may not run for long: so it goes on until there was one of each.
 */
const FLIP = `
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
static volatile struct sockaddr_in at;
static volatile int stop;
static void *flip(void *arg) {
    const unsigned short ports[] = {htons(80), htons(25), htons(8080), htons(22)};
    (void)arg;
    for (unsigned i = 0; !stop; i++) at.sin_port = ports[i % 4];
    return NULL;
}
int main(void) {
    pthread_t thread;
    int granted = 0, refused = 0;
    at.sin_family = AF_INET;
    at.sin_port = htons(8080);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    pthread_create(&thread, NULL, flip, NULL);
    for (int i = 0; i < 400 || ((!granted || !refused) && i < 50000); i++) {
        struct sockaddr_in got;
        socklen_t length = sizeof got;
        int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        int error = bind(fd, (struct sockaddr *)&at, sizeof at) < 0 ? errno : 0;
        getsockname(fd, (struct sockaddr *)&got, &length);
        printf("%d %d\\n", error, ntohs(got.sin_port));
        granted += got.sin_port == htons(80);
        refused += error == EACCES;
        close(fd);
    }
    stop = 1;
    pthread_join(thread, NULL);
    return 0;
}
`;

test("the address changes in memory all the time: what is bound is allowed and recorded, or free for everyone", async (t) => {
  if (lacks(t, "cc", "build-essential")) return;
  const helper = await start_helper(t, {
    rules: [{ name: "web", users: ["alice"], ports: [80], maxSockets: 1000 }],
    config: { limits: { requestsPerSecond: 100_000, requestBurst: 100_000 } },
  });
  const folder = folder_of(alice, "flip");
  writeFileSync(`${folder}/flip.c`, FLIP);
  tool("cc", "-O1", "-pthread", "-o", `${folder}/flip`, `${folder}/flip.c`);
  const { stdout, code } = await run(t, alice, exec("--", `${folder}/flip`));
  assert.equal(code, 0);
  const seen = new Map<string, number>();
  for (const line of stdout.trim().split("\n")) seen.set(line, (seen.get(line) ?? 0) + 1);
  t.diagnostic(JSON.stringify([...seen]));
  for (const line of seen.keys())
    assert.match(line, /^(0 80|0 8080|13 0|98 0)$/, "bound to 80 or 8080, or EACCES, or EADDRINUSE, and then not bound");
  assert.ok((seen.get("0 80") ?? 0) > 0 && (seen.get("13 0") ?? 0) > 0, "both ways were taken");
  const binds = helper.audit().filter((line) => line.method === "bind");
  const granted = binds.filter((line) => line.decision === "allow");
  assert.ok(granted.every((line) => line.params?.["port"] === 80));
  assert.equal(granted.length, seen.get("0 80"), "each bound socket was recorded");
});

test("the descriptor becomes another file while bind waits: the kernel's dup2, nothing of anybody else's", async (t) => {
  await start_helper(t);
  const code = `
import os, socket, threading
stop = False
s = socket.socket(); number = os.dup(s.fileno())
udp = socket.socket(type=socket.SOCK_DGRAM); null = os.open("/dev/null", os.O_RDWR)
def swap():
    while not stop:
        for other in (s.fileno(), udp.fileno(), null): os.dup2(other, number)
thread = threading.Thread(target=swap); thread.start()
results = set()
for i in range(100):
    one = socket.socket(fileno=os.dup(s.fileno()))
    try: libc_bind = __import__("ctypes").CDLL(None, use_errno=True).bind(number, bytes([2, 0, 0, 80, 127, 0, 0, 1]) + bytes(8), 16); results.add(libc_bind)
    finally: one.close()
stop = True; thread.join()
print(sorted(results) in ([-1, 0], [-1], [0]), os.system("exit 0"))`;
  const { stdout, stderr } = await run(t, alice, exec("--", "/usr/bin/python3", "-c", code));
  assert.equal(stdout, "True 0\n", stderr);
});
