/** The socket that takes the place of the program's own is what that one was, as far as the program can look. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { enter_box, USERS } from "./box.js";
import { ask_udp, connects, exec, Program, run } from "./exec-program.js";
import { start_helper } from "./helper-process.js";

await enter_box(import.meta.url);

const { alice } = USERS;
const python = (code: string) =>
  exec("--", "/usr/bin/python3", "-c", `import fcntl, os, select, socket, struct, sys, threading\n${code}`);

test("O_NONBLOCK and FD_CLOEXEC stay as they were, each way", async (t) => {
  await start_helper(t);
  const { stdout } = await run(
    t,
    alice,
    python(`
port = 800
for blocking in (False, True):
    for inherit in (False, True):
        s = socket.socket(); s.setblocking(blocking); s.set_inheritable(inherit)
        before = fcntl.fcntl(s, fcntl.F_GETFL), fcntl.fcntl(s, fcntl.F_GETFD)
        port += 1; s.bind(("127.0.0.1", port))
        print(before == (fcntl.fcntl(s, fcntl.F_GETFL), fcntl.fcntl(s, fcntl.F_GETFD)), s.getsockname()[1] == port)`),
  );
  assert.equal(stdout, "True True\n".repeat(4));
});

test("options of TCP, UDP and IPv6 sockets", async (t) => {
  await start_helper(t);
  const { stdout, stderr } = await run(
    t,
    alice,
    python(`
S, T, I, V = socket.SOL_SOCKET, socket.IPPROTO_TCP, socket.IPPROTO_IP, socket.IPPROTO_IPV6
ints = lambda *pairs: [(l, n, struct.pack("i", v)) for l, n, v in pairs]
tcp = ints((S, socket.SO_KEEPALIVE, 1), (S, socket.SO_RCVBUF, 20000), (S, socket.SO_SNDBUF, 30000), (T, socket.TCP_NODELAY, 1),
    (T, socket.TCP_KEEPIDLE, 11), (T, socket.TCP_KEEPINTVL, 12), (T, socket.TCP_KEEPCNT, 3), (T, socket.TCP_USER_TIMEOUT, 4000),
    (T, socket.TCP_FASTOPEN, 7), (I, socket.IP_TOS, 16), (I, socket.IP_TTL, 33), (S, socket.SO_PRIORITY, 3),
    (T, socket.TCP_DEFER_ACCEPT, 1)) + [(S, socket.SO_LINGER, struct.pack("ii", 1, 5)), (S, socket.SO_RCVTIMEO, struct.pack("qq", 9, 0))]
udp = ints((I, 21, 200), (S, 37, 8), (I, 15, 1), (S, socket.SO_BROADCAST, 1), (I, 8, 1), (I, socket.IP_MULTICAST_TTL, 9), (I, 11, 1), (S, socket.SO_RCVBUF, 40000))
six = ints((V, 49, 1), (V, socket.IPV6_TCLASS, 32), (V, socket.IPV6_UNICAST_HOPS, 22), (V, socket.IPV6_V6ONLY, 1))
for family, kind, address, options in [(2, 1, ("127.0.0.1", 801), tcp), (2, 2, ("127.0.0.1", 802), udp), (10, 2, ("::1", 803), six), (10, 1, ("::", 804), six[3:])]:
    s, plain = socket.socket(family, kind), socket.socket(family, kind)
    for l, n, v in options: s.setsockopt(l, n, v)
    before = [s.getsockopt(l, n, 64) for l, n, v in options]
    assert all(before[i] != plain.getsockopt(l, n, 64) for i, (l, n, v) in enumerate(options)), "each is set"
    s.bind(address)
    after = [s.getsockopt(l, n, 64) for l, n, v in options]
    print([options[i][:2] + (b, a) for i, (b, a) in enumerate(zip(before, after)) if b != a], s.getsockname()[1] == address[1])`),
  );
  assert.equal(stdout, "[] True\n".repeat(4), stderr);
});

test("a device that the socket is bound to", async (t) => {
  await start_helper(t);
  const { stdout } = await run(
    t,
    alice,
    python(`
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\\0")
s.bind(("127.0.0.1", 80)); print(s.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16))`),
  );
  assert.equal(stdout, "b'lo\\x00'\n");
});

test("a filter keeps out what it kept out, from the first datagram on", async (t) => {
  await start_helper(t);
  const { stdout, stderr } = await run(
    t,
    alice,
    python(`
import ctypes
code = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0)) # drops all
for port in (802, 8802):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HP", 1, ctypes.addressof(code)))
    s.setsockopt(socket.SOL_SOCKET, 44, 1)
    s.bind(("127.0.0.1", port))
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other.sendto(b"x", ("127.0.0.1", port))
    try: s.setsockopt(socket.SOL_SOCKET, 27, 0)
    except PermissionError: print("locked", end=" ")
    try: s.recv(1, socket.MSG_DONTWAIT)
    except BlockingIOError: print("nothing came")`),
  );
  assert.equal(stdout, "locked nothing came\n".repeat(2), stderr);
});

test("dup()ed descriptors are the bound socket too, each with its own FD_CLOEXEC", async (t) => {
  await start_helper(t);
  const { stdout } = await run(
    t,
    alice,
    python(`
s = socket.socket()
copies = [s.fileno(), os.dup(s.fileno()), fcntl.fcntl(s, fcntl.F_DUPFD, 40), fcntl.fcntl(s, fcntl.F_DUPFD_CLOEXEC, 60)]
os.set_inheritable(copies[1], True)
flags = [fcntl.fcntl(c, fcntl.F_GETFD) for c in copies]
s.bind(("127.0.0.1", 80))
print(len({os.fstat(c).st_ino for c in copies}), [socket.socket(fileno=os.dup(c)).getsockname()[1] for c in copies],
    flags == [fcntl.fcntl(c, fcntl.F_GETFD) for c in copies])`),
  );
  assert.equal(stdout, "1 [80, 80, 80, 80] True\n");
});

test("epoll registrations from before bind report the new socket's connections, with mask and data", async (t) => {
  await start_helper(t);
  const code = `
import ctypes
libc = ctypes.CDLL(None)
class event(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("events", ctypes.c_uint32), ("data", ctypes.c_uint64)]
s = socket.socket(); s.setblocking(False)
other = socket.socket(); other.bind(("127.0.0.1", 0)); other.listen()
sets = [select.epoll(), select.epoll()]
def control(set, op, fd, mask, data): assert libc.epoll_ctl(set.fileno(), op, fd, ctypes.byref(event(mask, data))) == 0
control(sets[0], 1, s.fileno(), select.EPOLLIN, 0x123456789abcdef0)
control(sets[0], 1, other.fileno(), select.EPOLLIN, 7)
copy = os.dup(s.fileno())
control(sets[1], 1, copy, select.EPOLLIN | select.EPOLLET, 0xffffffffffffffff)
s.bind(("127.0.0.1", 80)); s.listen()
print("listening", flush=True)
for set in sets:
    e = event()
    print(libc.epoll_wait(set.fileno(), ctypes.byref(e), 1, 20000), e.events, hex(e.data), flush=True)
control(sets[0], 3, s.fileno(), select.EPOLLIN | select.EPOLLONESHOT, 5)  # EPOLL_CTL_MOD
control(sets[1], 2, copy, 0, 0)  # EPOLL_CTL_DEL
c, _ = s.accept(); print("accepted", flush=True)
print(open(f"/proc/self/fdinfo/{sets[1].fileno()}").read().count("tfd"), open(f"/proc/self/fdinfo/{sets[0].fileno()}").read().count("tfd"))`;
  const program = new Program(t, alice, python(code));
  await program.printed(/listening/);
  assert.equal(await connects(80), true);
  const { stdout } = await program.ended();
  assert.equal(stdout, "listening\n1 1 0x123456789abcdef0\n1 1 0xffffffffffffffff\naccepted\n0 2\n");
});

test("a high number, and one that the supervisor has in use itself", async (t) => {
  await start_helper(t);
  const code = `
port = 800
for number in list(range(3, 40)) + [900]:
    s = socket.socket(); fd = os.dup2(s.detach(), number)
    e = select.epoll(); e.register(fd, select.EPOLLIN)
    s = socket.socket(fileno=fd); port += 1
    s.bind(("127.0.0.1", port)); s.listen()
    c = socket.create_connection(("127.0.0.1", port))
    assert e.poll(5) == [(number, select.EPOLLIN)], number
    s.close(); e.close(); c.close()
print("all")`;
  const { stdout, stderr } = await run(t, alice, python(code.replace("port += 1", "port = 800 + number % 100")));
  assert.equal(stdout, "all\n", stderr);
});

test("it listens already, and listen(2) sets the backlog", async (t) => {
  await start_helper(t);
  const code = `
s = socket.socket(); s.bind(("127.0.0.1", 80))
print("accepting", s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN), flush=True); s.listen(3)
os.system("ss -ltn | grep -o ' 3 *127.0.0.1:80' | tr -s ' '")`;
  const { stdout } = await run(t, alice, python(code));
  assert.equal(stdout, "accepting 1\n 3 127.0.0.1:80\n");
});

test("datagrams come with their sender's address and go back to it", async (t) => {
  await start_helper(t);
  const program = new Program(
    t,
    alice,
    python(`
s = socket.socket(type=socket.SOCK_DGRAM); s.bind(("127.0.0.1", 80)); print("bound", flush=True)
while True:
    data, sender = s.recvfrom(100); s.sendto(b"to " + str(sender[1]).encode() + b" " + data, sender)`),
  );
  await program.printed(/bound/);
  assert.match((await ask_udp(80, Buffer.from("hello"))).toString(), /^to \d+ hello$/);
});
