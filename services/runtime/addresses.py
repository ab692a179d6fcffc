"""Addresses as people write them: HOST, HOST:PORT, and IPv6 with or without brackets."""

MAX_PORT = 65535
HTTPS_PORT = 443  # where a reverse proxy listens


def split_address(text: str, default_port: int) -> tuple[str, int]:
    """Host (without brackets) and port of ``text``; ``default_port`` if it has none.

    A bare IPv6 address such as ``fd00::7`` has no port. Raises ValueError with the reason for anything else.
    """
    host, port = _parts(text.strip())
    if not host or any(character.isspace() or character in "[]/" for character in host):
        raise ValueError(f"'{text}' is not an address (HOST or HOST:PORT)")
    if not port:
        return host, default_port
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= MAX_PORT):
        raise ValueError(f"'{text}' has no port between 1 and {MAX_PORT} after its last colon")
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """``host:port``, with brackets for IPv6, whether ``host`` has them or not."""
    host = host.strip("[]")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _parts(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")) or rest == ":":
            return "", ""
        return host, rest[1:]
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, port or "none"
    return text, ""
