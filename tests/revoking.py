"""Certificate revocation lists, as a CA makes them."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from services.identity.authority import Authority


def revocation_list(authority: Authority, *revoked: x509.Certificate) -> bytes:
    """In PEM form."""
    now = datetime.now(UTC)
    made = x509.CertificateRevocationListBuilder().issuer_name(authority.certificate.subject)
    made = made.last_update(now).next_update(now + timedelta(days=1))
    for certificate in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(now).build()
        made = made.add_revoked_certificate(entry)
    return made.sign(authority.key, hashes.SHA256()).public_bytes(Encoding.PEM)
