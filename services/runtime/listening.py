"""Opens the port of a server, or says clearly why it cannot."""

import errno
import socket

from services.errors import PortInUse, SettingsError

VANISHED_AFTER_S = 30  # a client that acknowledges nothing for so long is gone


def listen(host: str, port: int, *, command: str, port_option: str) -> socket.socket:
    """A socket on ``host:port``; port 0 is any free one. Raises PortInUse, or SettingsError for an address not ours.

    ``::`` means every address of this host, including those of IPv4.
    """
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    try:
        listening = socket.create_server((host, port), family=family, dualstack_ipv6=both)
        # Without this, an answer in two pieces would wait 40 ms for the client's acknowledgment of the first. asyncio
        # sets it on sockets that it creates itself; accepted connections inherit it from the listening socket.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A client of a stream may vanish silently; the kernel would retry for a quarter of an hour.
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, VANISHED_AFTER_S * 1000)
        return listening
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(port=port, host=host, option=port_option) from None
        problem = f"port {port} cannot be opened on {host} ({error.strerror})"
        raise SettingsError(name=f"--host or {port_option}", problem=problem, command=command) from None
