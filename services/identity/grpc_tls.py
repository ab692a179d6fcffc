"""gRPC credentials from an identity; loading this module loads grpc."""

import os
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from services.identity.identity import Identity

# grpcio has no option for the lowest TLS version. This TLS 1.2 suite is known to its TLS library but needs a
# pre-shared key, which nobody has: so TLS 1.2 can never be agreed on. TLS 1.3 suites are not affected.
CIPHER_VARIABLE = "GRPC_SSL_CIPHER_SUITES"
ONLY_TLS_1_3 = "ECDHE-PSK-CHACHA20-POLY1305"


def server_credentials(identity: "Identity") -> grpc.ServerCredentials:
    """For a listening port: TLS 1.3, a client certificate is required and verified."""
    _refuse_tls_1_2()
    key, chain = identity.key.read_bytes(), identity.cert.read_bytes()
    return grpc.ssl_server_credentials([(key, chain)], root_certificates=identity.trust.pem, require_client_auth=True)


def channel_credentials(identity: "Identity") -> grpc.ChannelCredentials:
    """For a channel: TLS 1.3, our certificate offered, the server's chain and host name verified."""
    _refuse_tls_1_2()
    return grpc.ssl_channel_credentials(
        root_certificates=identity.trust.pem,
        private_key=identity.key.read_bytes(),
        certificate_chain=identity.cert.read_bytes(),
    )


def _refuse_tls_1_2() -> None:
    """grpc reads the variable once, when the first credentials of the process are made."""
    os.environ[CIPHER_VARIABLE] = ONLY_TLS_1_3
