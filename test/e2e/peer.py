"""A steered peer: does on a Unix socket what a client library never would, as the user it was told to become.

Reads one JSON command a line from stdin, writes one JSON answer a line to stdout. Python, because its standard library can
pass descriptors, and because it shares no code with what is tested. Descriptors are named by their numbers.
"""
import array
import base64
import errno
import fcntl
import json
import os
import select
import socket
import struct
import subprocess
import sys
import time

SO_DETACH_FILTER = 27
SO_LOCK_FILTER = 44
socks = {}      # number -> socket
buffers = {}    # number -> bytes received and not yet taken
queues = {}     # number -> descriptors received and not yet taken


def keep(sock):
    socks[sock.fileno()] = sock
    return sock.fileno()


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def connect(path, timeout=10):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(timeout)
    sock.connect(path)
    buffers[sock.fileno()] = b""
    queues[sock.fileno()] = []
    return keep(sock)


def connect_as(path, uid, gid, groups):
    """Connects as another user and is root again afterwards."""
    os.setgroups(groups), os.setegid(gid), os.seteuid(uid)
    try:
        return connect(path)
    finally:
        os.seteuid(0), os.setegid(0), os.setgroups([])


def data_of(text, data):
    return text.encode() if data is None else base64.b64decode(data)


def send(conn, text="", data=None, fds=()):
    data = data_of(text, data)
    if fds:
        sent = socket.send_fds(socks[conn], [data], list(fds))
        data = data[sent:]
    socks[conn].sendall(data)


def flood(conn, text, limit):
    """Sends the same text over and over without reading; stops when the kernel takes no more for 0.3 seconds."""
    sock, sent, rest = socks[conn], 0, b""
    sock.setblocking(False)
    while sent < limit:
        rest = rest or text.encode() * 50
        if not select.select([], [sock], [], 0.3)[1]:
            break
        try:
            n = sock.send(rest)
        except BlockingIOError:
            break
        rest, sent = rest[n:], sent + n
    sock.settimeout(10)
    return sent


def receive(conn, size, timeout):
    socks[conn].settimeout(timeout)
    data, fds, flags, _ = socket.recv_fds(socks[conn], size, 253, socket.MSG_CMSG_CLOEXEC)
    if flags & socket.MSG_CTRUNC:
        raise OSError(errno.EMSGSIZE, "descriptors were lost")
    queues[conn] += fds
    return data


def line(conn, timeout=10):
    while b"\n" not in buffers[conn]:
        data = receive(conn, 65536, timeout)
        if not data:
            raise EOFError(f"closed after {buffers[conn][:2000]!r}")
        buffers[conn] += data
    text, _, buffers[conn] = buffers[conn].partition(b"\n")
    fds, queues[conn] = queues[conn], []
    return {"text": text.decode(), "fds": [keep_fd(fd) for fd in fds]}


def keep_fd(fd):
    return keep(socket.socket(fileno=fd))


def one_byte(conn, timeout=10):
    """The next byte, and how many descriptors came with it."""
    before = len(queues[conn])
    data = receive(conn, 1, timeout)
    buffers[conn] += data
    return {"byte": data.decode(), "fds": len(queues[conn]) - before}


def rest(conn, timeout=10):
    """All until the other end closes; what ended it is "end" or the name of an error."""
    how = "end"
    try:
        while data := receive(conn, 65536, timeout):
            buffers[conn] += data
    except ConnectionError as error:
        how = errno.errorcode[error.errno]
    text, buffers[conn] = buffers[conn], b""
    return {"text": text.decode(errors="replace"), "how": how}


def shutdown(sock, how):
    socks[sock].shutdown(how)


def close(sock):
    if isinstance(sock, list):
        for one in sock:
            close(one)
        return
    buffers.pop(sock, None)
    for fd in queues.pop(sock, []):
        os.close(fd)
    socks.pop(sock).close()


def info(sock):
    s = socks[sock]
    name = s.getsockname()
    number = s.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
    return {
        "family": 6 if s.family == socket.AF_INET6 else 4,
        "protocol": "tcp" if number == socket.SOCK_STREAM else "udp",
        "address": name[0],
        "port": name[1],
        "listening": bool(s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)),
        "inode": os.fstat(sock).st_ino,
        "nonblocking": bool(fcntl.fcntl(sock, fcntl.F_GETFL) & os.O_NONBLOCK),
        "ipv6Only": s.family == socket.AF_INET6 and bool(s.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)),
    }


def accept(sock, timeout=10):
    listener = socks[sock]
    if not select.select([listener], [], [], timeout)[0]:
        raise TimeoutError("nobody connected")
    return keep(listener.accept()[0])


def answer(conn, text):
    """Reads an HTTP request and answers it."""
    sock = socks[conn]
    sock.settimeout(10)
    data = b""
    while b"\r\n\r\n" not in data:
        part = sock.recv(65536)
        if not part:
            raise EOFError("no request")
        data += part
    sock.sendall(f"HTTP/1.1 200 OK\r\ncontent-length: {len(text)}\r\nconnection: close\r\n\r\n{text}".encode())
    peer = sock.getpeername()[0]
    close(conn)
    return peer


def dial(address, port, timeout=10):
    sock = socket.socket(family_of(address), socket.SOCK_STREAM)
    sock.settimeout(timeout)
    sock.connect((address, port))
    return keep(sock)


def bind(address, port, protocol="tcp", backlog=5, reuse_port=False):
    sock = socket.socket(family_of(address), socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    if protocol == "tcp":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((address, port))
    if protocol == "tcp" and backlog:
        sock.listen(backlog)
    return keep(sock)


def listen(sock, backlog=5):
    socks[sock].listen(backlog)


def say(sock, text):
    socks[sock].settimeout(10)
    socks[sock].sendall(text.encode())


def hear(sock, timeout=10):
    socks[sock].settimeout(timeout)
    return socks[sock].recv(65536).decode()


def datagram(address, port, text):
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as sock:
        sock.sendto(text.encode(), (address, port))


def rest_of(sock, timeout=10):
    socks[sock].settimeout(timeout)
    data = b""
    while part := socks[sock].recv(65536):
        data += part
    return {"text": data.decode()}


def hear_datagram(sock, timeout=10):
    if not select.select([socks[sock]], [], [], timeout)[0]:
        raise TimeoutError("no datagram")
    return socks[sock].recvfrom(65536)[0].decode()


def detach_filter(sock):
    socks[sock].setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


def use_as(conn, uid, text):
    """A child that has the connection becomes another user and asks."""
    pid = os.fork()
    if pid == 0:
        os.setgroups([]), os.setresgid(uid, uid, uid), os.setresuid(uid, uid, uid)
        socks[conn].sendall(text.encode())
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def use_by_program(conn, program, text):
    """Another program is executed with the connection, and asks; says whom it was."""
    code = "import os,socket,sys;s=socket.socket(fileno=int(sys.argv[1]));s.sendall(sys.argv[2].encode());print(os.geteuid())"
    os.set_inheritable(conn, True)
    done = subprocess.run([program, "-IS", "-c", code, str(conn), text], close_fds=False, capture_output=True, check=True)
    return int(done.stdout)


def attempt(code):
    """Any other thing, as Python; for what one test alone wants to know."""
    scope = {"socks": socks}
    exec(code, globals(), scope)
    return scope.get("result")


def become(uid, gid, groups):
    os.setgroups(groups), os.setresgid(gid, gid, gid), os.setresuid(uid, uid, uid)


OPS = {name: value for name, value in list(globals().items()) if callable(value) and not name.startswith("_")}


def main():
    for command in sys.stdin:
        args = json.loads(command)
        try:
            reply = {"ok": OPS[args.pop("op")](**args)}
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, type(error).__name__)
            reply = {"error": name, "message": str(error)}
        except Exception as error:
            reply = {"error": type(error).__name__, "message": str(error)}
        print(json.dumps(reply), flush=True)


main()
