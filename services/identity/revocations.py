"""Certificate revocation lists in files that others replace: they are read again when they change."""

from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from services.runtime import logs

FILE_BYTES = 4 * 1024 * 1024

_log = logs.get("identity")


class RevocationList:
    """One file. ``cas``: the CAs whose lists count. If the file cannot be used, the list read last stays in force."""

    def __init__(self, path: Path, cas: Sequence[x509.Certificate]) -> None:
        """Raises ValueError with the reason."""
        self._path = path
        self._cas = tuple(cas)
        self._stamp = _stamp(path)
        self._revoked = self._read()

    def holds(self, certificate: x509.Certificate) -> bool:
        """Whether it is revoked."""
        return (certificate.issuer, certificate.serial_number) in self._revoked

    def look(self) -> bool:
        """Reads the file again if it has changed; returns whether the list is a new one."""
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            newest = self._read()
        except ValueError as error:
            _log.error(
                "a revocation list cannot be used; the previous one stays in force",
                path=str(self._path),
                why=str(error),
            )
            return False
        changed, self._revoked = newest != self._revoked, newest
        if changed:
            _log.info("loaded a new revocation list", path=str(self._path), revoked=len(newest))
        return changed

    def _read(self) -> frozenset[tuple[x509.Name, int]]:
        try:
            with self._path.open("rb") as file:
                content = file.read(FILE_BYTES + 1)
        except OSError as error:
            raise ValueError(f"it cannot be read: {(error.strerror or str(error)).lower()}") from None
        if len(content) > FILE_BYTES:
            raise ValueError(f"it has more than {FILE_BYTES:,} bytes")
        return revoked_by(content, self._cas)


def revoked_by(content: bytes, cas: Sequence[x509.Certificate]) -> frozenset[tuple[x509.Name, int]]:
    """Issuer and serial number of each certificate on a list (PEM or DER). Raises ValueError with the reason."""
    try:
        load = x509.load_pem_x509_crl if b"-----BEGIN" in content else x509.load_der_x509_crl
        found = load(content)
        is_whole = not any(_narrows(it) for it in found.extensions)
        revoked = frozenset((found.issuer, it.serial_number) for it in found)
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension):
        raise ValueError("it is no certificate revocation list") from None
    if not is_whole:
        raise ValueError("it is not one list of all that its CA has revoked")
    if not any(ca.subject == found.issuer and _signed(found, ca) for ca in cas):
        raise ValueError("none of the organization's CAs has signed it")
    return revoked


def _narrows(extension: x509.Extension[x509.ExtensionType]) -> bool:
    """Whether this makes the list a partial one or one that covers other CAs, or cannot be understood."""
    value = extension.value
    if isinstance(value, x509.IssuingDistributionPoint):
        parts = (value.only_contains_user_certs, value.only_contains_ca_certs, value.only_contains_attribute_certs)
        return value.indirect_crl or value.only_some_reasons is not None or any(parts)
    return isinstance(value, x509.DeltaCRLIndicator) or (
        extension.critical and isinstance(value, x509.UnrecognizedExtension)
    )


def _signed(found: x509.CertificateRevocationList, ca: x509.Certificate) -> bool:
    try:
        return found.is_signature_valid(ca.public_key())  # type: ignore[arg-type]
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False


def _stamp(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_size)
