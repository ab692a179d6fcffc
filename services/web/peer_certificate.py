"""Gives an ASGI application the certificate of its caller, which uvicorn keeps to itself."""

import asyncio
from collections.abc import Mapping
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

_STATE = "peer_certificate"


class PeerCertificateProtocol(H11Protocol):
    """HTTP/1.1 over TLS; each request's ``state`` holds the verified certificate in DER form, or None.

    The state comes from the connection, so nothing a caller sends can forge it.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        tls = transport.get_extra_info("ssl_object")
        certificate = None if tls is None else tls.getpeercert(binary_form=True)
        self.app_state = {**self.app_state, _STATE: certificate}
        super().connection_made(transport)


def certificate_of(scope: Mapping[str, Any]) -> bytes | None:
    """DER form of the certificate that the caller showed and the handshake verified; None where it showed none."""
    certificate: bytes | None = scope.get("state", {}).get(_STATE)
    return certificate
