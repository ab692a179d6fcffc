"""Opens the port of a server, or says in words why not."""

import errno
import socket

from services.errors import PortInUse, SettingsError

VANISHED_AFTER_S = 30  # a caller that acknowledges nothing of what it is sent


def listen(host: str, port: int, *, command: str, port_option: str) -> socket.socket:
    """A socket on ``host:port``; 0 is any free one. Raises PortInUse, or SettingsError for an address not ours.

    ``::`` is every address of this host, those of IPv4 too.
    """
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    try:
        listening = socket.create_server((host, port), family=family, dualstack_ipv6=both)
        # An answer in two pieces would wait 40 ms for the caller's acknowledgment of the first. asyncio says so itself
        # to sockets that it makes, and connections have this from the socket that they came by.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Who listens to a stream may vanish without a word; the kernel would try to reach it for a quarter of an hour.
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, VANISHED_AFTER_S * 1000)
        return listening
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(port=port, host=host, option=port_option) from None
        problem = f"port {port} cannot be opened on {host} ({error.strerror})"
        raise SettingsError(name=f"--host or {port_option}", problem=problem, command=command) from None
