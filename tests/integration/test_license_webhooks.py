"""The license server's posts to another program arrive over HTTPS, and only if that program's certificate
is trusted.
"""

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from services.license_server.webhooks import post_over_https

BODY = b'{"event": "test"}'


class Listener(BaseHTTPRequestHandler):
    """Answers with the status named in the path."""

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.server.taken.append((self.path, self.headers["X-Swarm-Signature"], self.rfile.read(length)))  # type: ignore[attr-defined]
        self.send_response(int(self.path[1:]))
        self.send_header("Location", "/200")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def listener(pki: Any) -> Iterator[ThreadingHTTPServer]:
    issued = pki.issue("admin", "listener")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.cert, issued.key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        server.taken = []  # type: ignore[attr-defined]
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def post(listener: ThreadingHTTPServer, path: str) -> str:
    address = f"https://localhost:{listener.server_address[1]}{path}"
    return post_over_https(address, BODY, {"X-Swarm-Signature": "sha256=00"})


def test_a_delivery_arrives_with_its_signature(
    listener: ThreadingHTTPServer, pki: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pki.cacert))
    assert post(listener, "/200") == ""
    assert listener.taken == [("/200", "sha256=00", BODY)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", [302, 401, 500])
def test_what_is_refused_or_sent_elsewhere_is_not_taken(
    listener: ThreadingHTTPServer, pki: Any, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pki.cacert))
    assert post(listener, f"/{status}") == f"HTTP {status}"
    assert len(listener.taken) == 1  # type: ignore[attr-defined]


def test_nothing_is_sent_to_a_server_whose_certificate_is_not_trusted(listener: ThreadingHTTPServer) -> None:
    assert "certificate verify failed" in post(listener, "/200")
    assert listener.taken == []  # type: ignore[attr-defined]
