"""The content of a certificate, for people."""

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509


@dataclass(frozen=True)
class Certificate:
    subject: str
    issuer: str
    serial: str
    valid_from: datetime
    valid_until: datetime
    names: tuple[str, ...]
    key: str
    pem: str


def read(pem: str) -> Certificate | None:
    """None if there is no certificate or it cannot be read."""
    if not pem:
        return None
    try:
        found = x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        return None
    return Certificate(
        subject=found.subject.rfc4514_string() or "(empty)",
        issuer=found.issuer.rfc4514_string() or "(empty)",
        serial=f"{found.serial_number:x}",
        valid_from=found.not_valid_before_utc,
        valid_until=found.not_valid_after_utc,
        names=_names(found),
        key=type(found.public_key()).__name__.lstrip("_").replace("PublicKey", ""),
        pem=pem,
    )


def _names(found: x509.Certificate) -> tuple[str, ...]:
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names)
