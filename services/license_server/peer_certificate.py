"""Gives an ASGI application the certificate of its caller, which uvicorn keeps to itself."""

import asyncio

from starlette.requests import Request
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.errors import NoIdentity
from services.identity.identity import PeerIdentity, identity_of_certificate

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


def require_peer(request: Request) -> PeerIdentity:
    """Who calls. Raises NoIdentity without a certificate, IdentityError where it names nobody."""
    certificate: bytes | None = getattr(request.state, _STATE, None)
    if certificate is None:
        raise NoIdentity(missing="a client certificate")
    return identity_of_certificate(certificate)
