"""Names are looked up in the DNS of the cluster that this container runs in, connections come from the address of its
pod, and the kernel's table of connections shows none that comes from another pod."""

import builtins as _builtins
import io as _io
import socket as _socket
import struct as _struct


def _install(server, namespace, pod):
    module = _socket
    original = module.getaddrinfo
    connect = module.socket.connect
    connect_ex = module.socket.connect_ex

    def error(code):
        words = {
            module.EAI_NONAME: "Name or service not known",
            module.EAI_AGAIN: "Temporary failure in name resolution",
            module.EAI_NODATA: "No address associated with hostname",
        }
        return module.gaierror(code, words[code])

    def is_literal(host):
        for family in (module.AF_INET, module.AF_INET6):
            try:
                module.inet_pton(family, host.split("%")[0])
                return True
            except (OSError, ValueError):
                pass
        return False

    def look_up(host):
        if len(host) > 253 or any(char.isspace() for char in host):
            raise error(module.EAI_NONAME)
        try:
            with module.socket(module.AF_INET, module.SOCK_STREAM) as asked:
                asked.settimeout(5)
                connect(asked, server)
                asked.sendall(f"{namespace} {host}\n".encode("utf-8"))
                answer = b""
                while not answer.endswith(b"\n"):
                    more = asked.recv(4096)
                    if not more:
                        raise OSError("no answer")
                    answer += more
        except OSError:
            raise error(module.EAI_AGAIN) from None
        addresses = answer.decode("ascii").split()
        if not addresses:
            raise error(module.EAI_NONAME)
        return addresses

    def getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):
        if isinstance(host, (bytes, bytearray)):
            host = bytes(host).decode("idna" if host else "ascii")
        if not host or host == "localhost" or not isinstance(host, str) or is_literal(host):
            return original(host, port, family, type, proto, flags)
        if flags & module.AI_NUMERICHOST:
            raise error(module.EAI_NONAME)
        addresses = look_up(host)
        if family == module.AF_INET6:
            raise error(module.EAI_NODATA)
        found = []
        for address in addresses:
            entries = original(address, port, module.AF_INET, type, proto, flags & ~module.AI_CANONNAME)
            found.extend(entries)
        if flags & module.AI_CANONNAME and found:
            found[0] = found[0][:3] + (host,) + found[0][4:]
        return found

    def first(host):
        return getaddrinfo(host, None, module.AF_INET, module.SOCK_STREAM)[0][4][0]

    def gethostbyname(host):
        return first(host)

    def gethostbyname_ex(host):
        entries = getaddrinfo(host, None, module.AF_INET, module.SOCK_STREAM)
        return host, [], [entry[4][0] for entry in entries]

    def resolved(own, address):
        if own.family == module.AF_INET and isinstance(address, tuple) and len(address) == 2:
            host, port = address
            if isinstance(host, str) and host and host != "localhost" and not is_literal(host):
                return first(host), port
        return address

    def from_pod(own, address):
        is_inside = own.family == module.AF_INET and own.type == module.SOCK_STREAM and address[0].startswith("127.")
        if pod and is_inside and own.getsockname() == ("0.0.0.0", 0):
            own.bind((pod, 0))
        return address

    def connect_by_name(self, address):
        return connect(self, from_pod(self, resolved(self, address)))

    def connect_ex_by_name(self, address):
        return connect_ex(self, from_pod(self, resolved(self, address)))

    def is_of_other_pod(line):
        try:
            address = module.inet_ntoa(_struct.pack("=I", int(line.split()[1].split(":")[0], 16)))
        except (IndexError, ValueError, _struct.error):
            return False
        parts, own = address.split("."), pod.split(".")
        # Pods have the second quarter of the range of their cluster.
        return parts[:2] == own[:2] and 64 <= int(parts[2]) < 128 and address != pod

    def open_as_in_pod(file, *arguments, **options):
        opened = _io.open(file, *arguments, **options)
        if not pod or file != "/proc/net/tcp":
            return opened
        with opened:
            return _io.StringIO("".join(line for line in opened if not is_of_other_pod(line)))

    _builtins.open = open_as_in_pod

    module.getaddrinfo = getaddrinfo
    module.gethostbyname = gethostbyname
    module.gethostbyname_ex = gethostbyname_ex
    module.socket.connect = connect_by_name
    module.socket.connect_ex = connect_ex_by_name


