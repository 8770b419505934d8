"""No network but this machine: imported by tests/conftest.py, and by every notebook kernel the tests start (through PYTHONPATH)."""

import ipaddress
import socket


class NetworkBlocked(OSError):
    """A test or a notebook reached for the network; everything has to work offline."""


def _is_local(host) -> bool:
    host = host.decode() if isinstance(host, bytes) else host
    if host in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(host).split("%")[0]).is_loopback
    except ValueError:
        return host == socket.gethostname()


def _guarded(original):
    def connect(self, address):
        if isinstance(address, tuple) and not _is_local(address[0]):
            raise NetworkBlocked(f"Tests run offline, but something connects to {address[0]}:{address[1]}.")
        return original(self, address)

    return connect


def _guarded_lookup(original):
    def getaddrinfo(host, *arguments, **options):
        if not _is_local(host):
            raise NetworkBlocked(f"Tests run offline, but something looks up {host}.")
        return original(host, *arguments, **options)

    return getaddrinfo


if not hasattr(socket, "facelab_offline"):
    socket.facelab_offline = True
    socket.socket.connect = _guarded(socket.socket.connect)
    socket.socket.connect_ex = _guarded(socket.socket.connect_ex)
    socket.getaddrinfo = _guarded_lookup(socket.getaddrinfo)
