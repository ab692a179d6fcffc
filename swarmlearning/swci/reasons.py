"""Why there is no answer. A server that does not know the CA of a caller hangs up after the handshake, in silence."""

import ssl

HUNG_UP = "it hung up: it is starting or ending, or does not trust the CA that issued our certificate"


def reason_of(error: Exception) -> str:
    """In words, where the error has none that say it."""
    if isinstance(error, ConnectionRefusedError):
        return "the connection was refused: nothing listens on that port"
    if isinstance(error, (ConnectionError, ssl.SSLEOFError)):
        return HUNG_UP
    if "UNKNOWN_CA" in str(error):
        return "it does not trust the CA that issued our certificate"
    return str(error)
