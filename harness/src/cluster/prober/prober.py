# Looks at targets from inside a pod and tells what it saw, one JSON object a line. Needs Python 3.8 and
# nothing but its standard library. It reads the configuration as one JSON line from standard input and a
# number a line after that (each is answered at once: that is how the other side learns this clock), and it
# ends when standard input does, when nothing has come from there for a while, or when its time is over.
# It reads no environment variable and no file but /proc/net/tcp and /proc/net/tcp6.
import errno
import itertools
import json
import os
import selectors
import socket
import ssl
import struct
import sys
import threading
import time
from collections import deque

SILENT = "silent"
LINGER_ZERO = struct.pack("ii", 1, 0)
EAI = {getattr(socket, name): name for name in dir(socket) if name.startswith("EAI_")}
TCP_STATES = {1: "established", 2: "syn-sent", 3: "syn-recv", 4: "fin-wait-1", 5: "fin-wait-2", 6: "time-wait",
              7: "close", 8: "close-wait", 9: "last-ack", 10: "listen", 11: "closing"}
ESTABLISHED = "01"
# Before an IPv4 address in the table of IPv6.
MAPPED = "".join("%08X" % word for word in struct.unpack("=3I", b"\0" * 10 + b"\xff\xff"))
LINES_MAX = 20000
ADDRESSES_MAX = 8
KNOWN_MAX = 64
REMOTES_MAX = 32
HEAD_MAX = 65536
MS = 1000000

mono = time.monotonic_ns
selector = selectors.DefaultSelector()
own = {}


def tell(kind, **fields):
    data = (json.dumps({kind: fields}, separators=(",", ":")) + "\n").encode()
    try:
        while data:
            data = data[os.write(1, data):]
    except OSError:
        os._exit(0)


def error_name(number):
    return errno.errorcode.get(number, "E" + str(number))


def connect(family, address, port):
    """A connect under way, or the name of what speaks against it."""
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        return None, error_name(error.errno)
    sock.setblocking(False)
    try:
        code = sock.connect_ex((address, port))
    except OSError as error:
        code = error.errno
    if code in (0, errno.EINPROGRESS):
        own[sock] = (address, port)
        return sock, None
    sock.close()
    return None, error_name(code)


def close(sock):
    try:
        selector.unregister(sock)
    except (KeyError, ValueError):
        pass
    own.pop(sock, None)
    sock.close()


class Look:
    """A new connection to every address of a target; it is over when one is accepted or all have failed."""

    def __init__(self, target, number):
        self.target, self.number, self.sent = target, number, mono()
        self.took, self.tries, self.open = None, [], {}
        self.unresolved = target.unresolved
        for family, address in target.addresses:
            sock, failed = connect(family, address, target.port)
            if sock is None:
                self.tries.append([address, failed])
            else:
                self.open[sock] = address
                selector.register(sock, selectors.EVENT_WRITE, (self.ready, sock))
        self.settle()

    def ready(self, sock):
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        address = self.open.pop(sock)
        self.tries.append([address, error_name(code) if code else None])
        # A reset leaves no socket behind in TIME_WAIT; several looks a second would pile them up.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
        close(sock)
        self.settle(up=not code)

    def expire(self):
        for sock in list(self.open):
            self.tries.append([self.open.pop(sock), SILENT])
            close(sock)
        self.settle()

    def settle(self, up=False):
        if up or not self.open:
            self.took = mono() - self.sent
            for sock in list(self.open):
                close(sock)
            self.open = {}


class Held:
    """One connection that is kept open and asked for what costs nothing, again and again."""

    def __init__(self, target):
        self.target, self.sock, self.phase = target, None, "closed"
        self.due = self.sent = self.born = self.number = self.turn = self.owed = 0

    def tick(self, now):
        if self.phase == "closed" and now >= self.due:
            self.open(now)
        elif self.phase == "idle" and now >= self.due:
            self.ask(now)
        elif self.phase in ("open", "tls") and now - self.sent >= HANG:
            self.fail(SILENT)
        elif self.phase == "ask" and now >= self.due:
            # Still open: an established connection may be answered late, and that is worth knowing.
            self.tell(error=SILENT)
            self.due = now + ASK
            if self.owed == 1:
                # One that is lost or slow says little: another on the same connection.
                self.send()

    def open(self, now):
        if not self.target.asked:
            self.due = now + 20 * MS
            return None
        self.number, self.sent, self.born, self.phase = self.number + 1, now, 0, "open"
        self.due = now + ASK
        addresses = self.target.addresses
        if not addresses:
            return self.fail(self.target.unresolved)
        family, address = addresses[self.turn % len(addresses)]
        self.sock, failed = connect(family, address, self.target.port)
        if failed:
            return self.fail(failed)
        self.watch(selectors.EVENT_WRITE)
        return None

    def watch(self, events):
        try:
            selector.modify(self.sock, events, (self.ready, self.sock))
        except KeyError:
            selector.register(self.sock, events, (self.ready, self.sock))

    def ready(self, _sock):
        try:
            self.go_on()
        except (BlockingIOError, ssl.SSLWantReadError):
            self.watch(selectors.EVENT_READ)
        except ssl.SSLWantWriteError:
            self.watch(selectors.EVENT_WRITE)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self.fail("closed")
        except ssl.SSLError as error:
            self.fail("tls: " + str(getattr(error, "verify_message", None) or error.reason)[:100])
        except OSError as error:
            self.fail(error_name(error.errno or 0))

    def go_on(self):
        if self.phase == "open":
            code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, "")
            self.born = mono()
            if self.target.tls:
                if self.target.trust is None:
                    return self.fail("tls: no authorities")
                selector.unregister(self.sock)
                remote = own.pop(self.sock)
                self.sock = self.target.trust.wrap_socket(
                    self.sock, do_handshake_on_connect=False, server_hostname=self.target.host)
                own[self.sock] = remote
                self.phase = "tls"
            else:
                return self.ask(mono())
        if self.phase == "tls":
            self.sock.do_handshake()
            return self.ask(mono())
        if self.phase in ("ask", "idle"):
            self.read()
        return None

    def ask(self, now):
        self.sent, self.due, self.phase, self.head, self.owed = now, now + ASK, "ask", b"", 0
        self.watch(selectors.EVENT_READ)
        self.send()

    def send(self):
        self.number, self.owed = self.number + 1, self.owed + 1
        try:
            # A hundred bytes or two into an empty send buffer: never a part of them.
            self.sock.send(self.target.request)
        except OSError as error:
            self.fail(error_name(error.errno or 0))

    def read(self):
        while True:
            data = self.sock.recv(4096)
            if not data or self.phase == "idle":
                return self.fail("closed")
            self.head += data
            if len(self.head) > HEAD_MAX:
                return self.fail("no-http")
            while self.phase == "ask" and b"\r\n\r\n" in self.head:
                head, self.head = self.head.split(b"\r\n\r\n", 1)
                self.answered(head)
            if self.phase != "ask":
                return None

    def answered(self, head):
        first = head.split(b"\r\n", 1)[0].split()
        if len(first) < 2 or not first[0].startswith(b"HTTP/1.") or not first[1].isdigit():
            return self.fail("no-http")
        self.tell(status=int(first[1][:3]))
        self.owed -= 1
        if b"\r\nconnection: close" in head.lower() or (self.head and not self.owed):
            self.drop(self.due)
        elif not self.owed:
            self.phase = "idle"
        return None

    def tell(self, **fields):
        tell("held", target=self.target.index, number=self.number, phase=self.phase, born=self.born,
             sent=self.sent, took=mono() - self.sent, **fields)

    def fail(self, error):
        self.tell(error=error)
        self.turn += 1
        self.drop(max(self.due, mono()))

    def drop(self, due):
        if self.sock is not None:
            close(self.sock)
        self.sock, self.phase, self.due = None, "closed", due


class Target:
    def __init__(self, index, spec):
        self.index, self.host, self.port, self.tls = index, spec["host"], spec["port"], spec["tls"]
        self.addresses, self.unresolved, self.asked, self.known = [], None, False, set()
        self.looks, self.number, self.trust = deque(), 0, None
        self.request = ("HEAD " + spec["path"] + " HTTP/1.1\r\nHost: " + self.host + "\r\n"
                        "User-Agent: failover-harness\r\nAccept: */*\r\n\r\n").encode()
        self.held = Held(self)

    def load_trust(self):
        try:
            # Verifies name and chain against the authorities that this container knows.
            self.trust = ssl.create_default_context()
        except (OSError, ssl.SSLError):
            self.trust = None

    def resolved(self, asked, took, addresses, failed):
        self.asked, self.unresolved = True, failed
        if not failed:
            # While a lookup fails the addresses of before are tried on: that shows what is behind the name.
            self.addresses = addresses[:ADDRESSES_MAX]
        for _, address in self.addresses:
            if len(self.known) < KNOWN_MAX:
                self.known.add(address)
        fields = {"error": failed} if failed else {"addresses": [address for _, address in self.addresses]}
        tell("resolved", target=self.index, sent=asked, took=took, more=len(addresses) > ADDRESSES_MAX, **fields)

    def look(self):
        self.number += 1
        self.looks.append(Look(self, self.number))

    def settle(self, now):
        """Looks are told in the order in which they were sent."""
        for look in self.looks:
            if look.took is None and now - look.sent >= HANG:
                look.expire()
        while self.looks and self.looks[0].took is not None:
            look = self.looks.popleft()
            fields = {"unresolved": look.unresolved} if look.unresolved else {}
            tell("look", target=self.index, number=look.number, sent=look.sent, took=look.took, tries=look.tries,
                 **fields)


def bare(address):
    return address.split("%", 1)[0]


def resolve(target, answers, bell, every):
    if target.tls:
        target.load_trust()
    while True:
        asked = mono()
        found, failed = [], None
        try:
            for family, _, _, _, place in socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM):
                if family in (socket.AF_INET, socket.AF_INET6) and (family, bare(place[0])) not in found:
                    found.append((family, bare(place[0])))
            failed = None if found else "EAI_NODATA"
        except socket.gaierror as error:
            failed = EAI.get(error.errno, "EAI_" + str(error.errno))
        except (OSError, UnicodeError):
            failed = "EAI_SYSTEM"
        answers.append((target, asked, mono() - asked, found, failed))
        try:
            os.write(bell, b"!")
        except OSError:
            pass
        time.sleep(every / 1000)


def endpoint(text):
    address, port = text.split(":")
    words = b"".join(struct.pack("=I", int(address[at:at + 8], 16)) for at in range(0, len(address), 8))
    if len(words) == 16 and words[:12] == b"\0" * 10 + b"\xff\xff":
        words = words[12:]
    family = socket.AF_INET if len(words) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, words), int(port, 16)


def written(address, port):
    """As the kernel's tables write it: an IPv4 address in either table."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    words = "".join("%08X" % word for word in struct.unpack("=%dI" % (len(packed) // 4), packed))
    text = words + ":%04X" % port
    return [text] if family == socket.AF_INET6 else [text, MAPPED + text]


def own_ends():
    """Both ends of each socket of this process, as the kernel's tables name them: a port alone may be another's, too."""
    ends = set()
    for sock, remote in own.items():
        try:
            local = sock.getsockname()
        except OSError:
            continue
        ends.add(((bare(local[0]), local[1]), remote))
    return ends


def tell_sockets(targets, gateway_port):
    begun, mine, cut = mono(), own_ends(), False
    to = [{} for _ in targets]
    inbound, failed = {}, None
    wanted = {}
    for target in targets:
        for address in target.known:
            for text in written(address, target.port):
                wanted.setdefault(text, []).append(target.index)
    gateway_end = ":%04X" % gateway_port
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(path) as table:
                lines = list(itertools.islice(table, 1, LINES_MAX + 2))
        except OSError as error:
            # No IPv6, no tcp6; without the first there is nothing to count.
            failed = error_name(error.errno) if path.endswith("tcp") else failed
            continue
        cut = cut or len(lines) > LINES_MAX
        for line in lines[:LINES_MAX]:
            fields = line.split(None, 4)
            if len(fields) < 5:
                continue
            # A busy gateway has thousands of others: what they are takes the most time, and nobody asks.
            to_target = fields[2] in wanted
            to_gateway = fields[3] == ESTABLISHED and fields[1].endswith(gateway_end)
            if not to_target and not to_gateway:
                continue
            try:
                local, remote = endpoint(fields[1]), endpoint(fields[2])
                state = TCP_STATES.get(int(fields[3], 16), "other")
            except ValueError:
                continue
            if to_target and (local, remote) not in mine:
                for index in wanted[fields[2]]:
                    to[index][state] = to[index].get(state, 0) + 1
            if to_gateway and (remote, local) not in mine:
                client = remote[0] if remote[0] in inbound or len(inbound) < REMOTES_MAX else "others"
                inbound[client] = inbound.get(client, 0) + 1
    fields = {"error": failed} if failed else {"to": to, "inbound": inbound, "cut": cut}
    tell("sockets", sent=begun, took=mono() - begun, **fields)


class Orders:
    """What comes in on standard input after the configuration."""

    def __init__(self):
        self.rest, self.heard = b"", mono()

    def ready(self, _):
        data = os.read(0, 4096)
        if not data:
            os._exit(0)
        self.heard = mono()
        *whole, self.rest = (self.rest + data).split(b"\n")
        for line in whole:
            if line.isdigit() and len(line) < 16:
                tell("echo", number=int(line), mono=mono(), wall=time.time_ns())
        if len(self.rest) > 64:
            os._exit(0)


def configured():
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte or len(line) > 1000000:
            os._exit(0)
        line += byte
    return json.loads(line)


def main(config):
    targets = [Target(index, spec) for index, spec in enumerate(config["targets"])]
    answers, orders = deque(), Orders()
    heard, bell = os.pipe()
    os.set_blocking(heard, False)
    os.set_blocking(bell, False)
    tell("hello", python=list(sys.version_info[:3]), mono=mono(), wall=time.time_ns())
    for target in targets:
        arguments = (target, answers, bell, config["resolve_every_ms"])
        threading.Thread(target=resolve, args=arguments, daemon=True).start()
    selector.register(0, selectors.EVENT_READ, (orders.ready, 0))
    selector.register(heard, selectors.EVENT_READ, (lambda fd: os.read(fd, 4096), heard))
    begun = mono()
    every, count_every = config["look_every_ms"] * MS, config["sockets_every_ms"] * MS
    look_due = [begun + every * index // len(targets) for index in range(len(targets))]
    count_due = begun
    while mono() - begun < config["ends_after_ms"] * MS and mono() - orders.heard < config["silence_ms"] * MS:
        now = mono()
        waits = look_due + [count_due] + [target.held.due for target in targets]
        waits += [target.looks[0].sent + HANG for target in targets if target.looks]
        waits += [target.held.sent + HANG for target in targets if target.held.phase in ("open", "tls")]
        for key, _ in selector.select(min(max(0, min(waits) - now) / 1e9, 0.1)):
            call, what = key.data
            # One that was closed by an event before it in the same round.
            if key.fileobj in selector.get_map():
                call(what)
        while answers:
            target, *answer = answers.popleft()
            target.resolved(*answer)
        now = mono()
        for index, target in enumerate(targets):
            if now >= look_due[index]:
                if target.asked:
                    target.look()
                # Missed ones are not made up for: the gap shows in the times.
                look_due[index] += every * (1 + (now - look_due[index]) // every)
            target.held.tick(now)
            target.settle(now)
        if now >= count_due:
            count_due = now + count_every
            tell_sockets(targets, config["gateway_port"])


CONFIG = configured()
HANG, ASK = CONFIG["hang_ms"] * MS, CONFIG["ask_every_ms"] * MS
main(CONFIG)
os._exit(0)
