"""Client of a license server's REST API."""

import http.client
import json
import ssl
from typing import Any
from urllib.parse import urlencode

from services.errors import AdminError, LicenseServerUnreachable, SwarmError, by_code

TIMEOUT_S = 60.0


class LicenseAdmin:
    """Calls one server, with a token or with the certificate in ``context``."""

    def __init__(self, address: str, context: ssl.SSLContext, token: str = "") -> None:
        self._address = address
        self._context = context
        self._token = token

    def get(self, path: str, **query: Any) -> Any:
        """Raises LicenseServerUnreachable, or the error with which the server refuses."""
        given = {name: value for name, value in query.items() if value not in (None, "")}
        return json.loads(self.ask("GET", f"{path}?{urlencode(given)}" if given else path))

    def send(self, method: str, path: str, content: Any = None) -> Any:
        """Sends and returns JSON; None if the answer is empty."""
        body = b"" if content is None else json.dumps(content).encode()
        answer = self.ask(method, path, body, "application/json")
        return json.loads(answer) if answer else None

    def ask(self, method: str, path: str, body: bytes = b"", content_type: str = "") -> bytes:
        """The body of the answer. ``path``: the part after /api/v1."""
        host, _, port = self._address.rpartition(":")
        headers = {"Content-Type": content_type} if content_type else {}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        connection = http.client.HTTPSConnection(host.strip("[]"), int(port), context=self._context, timeout=TIMEOUT_S)
        try:
            connection.request(method, f"/api/v1{path}", body or None, headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise LicenseServerUnreachable(address=self._address, problem=_problem(error)) from None
        finally:
            connection.close()
        if response.status >= 400:
            raise self._refusal(response.status, content)
        return content

    def _refusal(self, status: int, content: bytes) -> SwarmError:
        try:
            told = json.loads(content)
            cls, facts = by_code(str(told["code"])), dict(told["facts"])
        except (ValueError, KeyError, TypeError):
            return AdminError(problem=f"{self._address} answered HTTP {status}")
        if cls is SwarmError:
            return AdminError(problem=str(told.get("message", f"HTTP {status}")))
        return cls(**facts)


def _problem(error: Exception) -> str:
    """A server that does not know a caller's CA disconnects after the handshake, mostly without an error message."""
    if isinstance(error, ConnectionRefusedError):
        return "the connection was refused: nothing listens on that port"
    if isinstance(error, (ConnectionError, ssl.SSLEOFError)):
        return "it hung up: it is starting or ending, or does not trust the CA that issued our certificate"
    if "UNKNOWN_CA" in str(error):
        return "it does not trust the CA that issued our certificate"
    return str(error) or "no answer"
