"""Judges this node's own identity before any peer does: dates, key, chain, key usages."""

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from services.errors import (
    CertificateExpired,
    CertificateNotYetValid,
    CertificateUntrusted,
    IdentityError,
    KeyMismatch,
)
from services.identity.certificates import common_name, time_in_words
from services.identity.peers import TrustBundle

# Verification results of OpenSSL (x509_vfy.h).
X509_NOT_YET_VALID = 9
X509_EXPIRED = 10
X509_UNTRUSTED = frozenset({2, 7, 18, 19, 20, 21})  # no issuer, bad signature, self-signed, incomplete chain
X509_HOSTNAME_MISMATCH = frozenset({62, 64})


def check_dates(path: Path, certificates: Sequence[x509.Certificate], now: datetime | None = None) -> None:
    """Raises CertificateExpired or CertificateNotYetValid for the first certificate that is not valid now."""
    moment = now or datetime.now(UTC)
    for certificate in certificates:
        if moment > certificate.not_valid_after_utc:
            when = time_in_words(certificate.not_valid_after_utc)
            raise CertificateExpired(path=path, name=common_name(certificate), when=when)
        if moment < certificate.not_valid_before_utc:
            when = time_in_words(certificate.not_valid_before_utc)
            raise CertificateNotYetValid(path=path, name=common_name(certificate), when=when)


def check_key(path: Path, certificate: x509.Certificate, key_path: Path, key: PrivateKeyTypes) -> None:
    """Raises KeyMismatch if the key does not belong to this certificate."""
    if key.public_key() != certificate.public_key():
        raise KeyMismatch(path=path, key=key_path)


def check_chain(
    path: Path, certificate: x509.Certificate, trust: TrustBundle, server: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    """Makes a TLS handshake of the node with itself in memory, so that the same code judges as at its peers.

    Raises CertificateUntrusted, CertificateExpired (of a CA), or IdentityError with OpenSSL's message (for example if
    the certificate's extended key usage forbids one of the two directions).
    """
    try:
        _handshake_in_memory(server, client)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in X509_UNTRUSTED:
            raise CertificateUntrusted(path=path, name=common_name(certificate), trust=trust.source) from None
        if error.verify_code in (X509_EXPIRED, X509_NOT_YET_VALID):
            check_dates(Path(trust.source), trust.certificates)
        raise IdentityError(path=path, problem=error.verify_message) from None
    except ssl.SSLError as error:
        raise IdentityError(path=path, problem=(error.reason or str(error)).lower().replace("_", " ")) from None


def _handshake_in_memory(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server)
    pending = [client, server]
    while pending:
        for side in tuple(pending):
            try:
                side.do_handshake()
                pending.remove(side)
            except ssl.SSLWantReadError:  # now it is the other side's turn
                continue
