"""The address at which peers reach this node, even if its host gets another one."""

import contextlib
import ipaddress
import socket

from services.runtime import logs
from services.runtime.addresses import split_address

_ANY_PORT = 9  # nothing is sent to it

_log = logs.get("sl")


class OwnAddress:
    """``host`` and ``port``, as announced to peers.

    If the host loses its announced IP address, for example when a tunnel is reopened, the new one is announced. A name
    stays, and so does an address that is not this host's, such as that of a router in front of it.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._follows = _is_here(host)

    def look(self, towards: str) -> None:
        """Updates ``host`` before it is announced to the SN at ``towards``. Blocks: that may be a name to look up."""
        if not self._follows or _is_here(self.host):
            return
        found = _way_to(towards)
        if found:
            _log.warning("this host has lost its address; announcing another one", lost=self.host, now=found)
            self.host = found


def _is_here(host: str) -> bool:
    """Whether ``host`` is an IP address that this host has now."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return False
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True


def _way_to(address: str) -> str:
    """The address from which this host reaches another one; empty if it has no route there.

    While the host has no address, the kernel may use the loopback address, at which no peer could reach it.
    """
    host, _ = split_address(address, _ANY_PORT)
    with contextlib.suppress(OSError):
        for family, kind, _, _, where in socket.getaddrinfo(host, _ANY_PORT, type=socket.SOCK_DGRAM):
            with socket.socket(family, kind) as probe, contextlib.suppress(OSError):
                probe.connect(where)
                found = str(probe.getsockname()[0])
                return "" if ipaddress.ip_address(found).is_loopback else found
    return ""
