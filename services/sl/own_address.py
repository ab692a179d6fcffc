"""By which address peers reach this node, also where its host is given another one."""

import contextlib
import ipaddress
import socket

from services.runtime import logs
from services.runtime.addresses import split_address

_ANY_PORT = 9  # nothing is sent to it

_log = logs.get("sl")


class OwnAddress:
    """``host`` and ``port`` as they are announced.

    An IP address of this host is followed where the host loses it, as when a tunnel is opened anew; what is no address
    of this host, as that of a router in front of it, stays as it is, and so does a name.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._follows = _is_here(host)

    def look(self, towards: str) -> None:
        """Before it is announced to the SN at ``towards``. Blocks: that may be a name."""
        if not self._follows or _is_here(self.host):
            return
        found = _way_to(towards)
        if found:
            _log.warning("this host has lost its address; announcing another one", lost=self.host, now=found)
            self.host = found


def _is_here(host: str) -> bool:
    """Whether it is an IP address that this host has now."""
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
    """The address from which this host calls another one; empty where it knows no way there.

    Between two addresses the kernel may call from that of loopback: where nobody could be reached.
    """
    host, _ = split_address(address, _ANY_PORT)
    with contextlib.suppress(OSError):
        for family, kind, _, _, where in socket.getaddrinfo(host, _ANY_PORT, type=socket.SOCK_DGRAM):
            with socket.socket(family, kind) as probe, contextlib.suppress(OSError):
                probe.connect(where)
                found = str(probe.getsockname()[0])
                return "" if ipaddress.ip_address(found).is_loopback else found
    return ""
