"""gRPC credentials from an identity; importing this module imports grpc. TLS 1.3 only: see services/__init__.py."""

import os

import grpc

from services.identity.renewal import Renewal


def server_credentials(key: bytes, chain: bytes, roots: bytes) -> grpc.ServerCredentials:
    """For a listening port: a client certificate is required and verified. All arguments are PEM."""
    _require_tls_1_3()
    return grpc.ssl_server_credentials([(key, chain)], root_certificates=roots, require_client_auth=True)


def renewed_server_credentials(renewal: Renewal) -> grpc.ServerCredentials:
    """The same, with the credentials that are current at each handshake."""
    _require_tls_1_3()
    shown = -1

    def configuration() -> grpc.ServerCertificateConfiguration:
        now = renewal.current
        pair = (now.key.read_bytes(), now.cert.read_bytes())
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=now.trust.pem)

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal shown
        if shown == renewal.number:
            return None
        shown = renewal.number
        return configuration()

    return grpc.dynamic_ssl_server_credentials(configuration(), changed, require_client_authentication=True)


def _require_tls_1_3() -> None:
    """A program that imports grpc before any module of services would silently allow TLS 1.2."""
    if not os.environ.get("GRPC_SSL_CIPHER_SUITES", "").startswith("ECDHE-PSK-"):
        raise RuntimeError(
            "grpc was imported before services, so its TLS version is not limited; import services first"
        )
