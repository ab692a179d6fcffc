"""Why there is no answer. A server that does not trust the client's CA hangs up silently after the handshake."""

import ssl

HUNG_UP = "it hung up: it is starting or ending, or does not trust the CA that issued our certificate"


def reason_of(error: Exception) -> str:
    """The reason in words, also if the error itself does not say it."""
    if isinstance(error, ConnectionRefusedError):
        return "the connection was refused: nothing listens on that port"
    if isinstance(error, (ConnectionError, ssl.SSLEOFError)):
        return HUNG_UP
    if "UNKNOWN_CA" in str(error):
        return "it does not trust the CA that issued our certificate"
    return str(error)
