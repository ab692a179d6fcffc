"""gRPC credentials from an identity; loading this module loads grpc. TLS 1.3 only: see services/__init__.py."""

import os
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from services.identity.identity import Identity


def server_credentials(identity: "Identity") -> grpc.ServerCredentials:
    """For a listening port: a client certificate is required and verified."""
    _require_tls_1_3()
    key, chain = identity.key.read_bytes(), identity.cert.read_bytes()
    return grpc.ssl_server_credentials([(key, chain)], root_certificates=identity.trust.pem, require_client_auth=True)


def channel_credentials(identity: "Identity") -> grpc.ChannelCredentials:
    """For a channel: our certificate offered, the server's chain and host name verified."""
    _require_tls_1_3()
    return grpc.ssl_channel_credentials(
        root_certificates=identity.trust.pem,
        private_key=identity.key.read_bytes(),
        certificate_chain=identity.cert.read_bytes(),
    )


def _require_tls_1_3() -> None:
    """A program that imports grpc before anything of services would quietly allow TLS 1.2."""
    if not os.environ.get("GRPC_SSL_CIPHER_SUITES", "").startswith("ECDHE-PSK-"):
        raise RuntimeError(
            "grpc was imported before services, so its TLS version is not limited; import services first"
        )
