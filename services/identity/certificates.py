"""Reads certificates and keys from PEM files, naming the file in every error; and what a certificate contains."""

import contextlib
import hashlib
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from services.errors import CertificateUnreadable
from services.identity.spiffe import SCHEME

_BEGIN_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"


def key_fingerprint(certificate: x509.Certificate) -> str:
    """Hex SHA-256 of the public key (SubjectPublicKeyInfo in DER form): the same for all certificates of that key.

    Raises UnsupportedAlgorithm, ValueError if the key is not valid.
    """
    return fingerprint_of_key(certificate.public_key())


def fingerprint_of_key(key: PublicKeyTypes) -> str:
    """Hex SHA-256 of the key's SubjectPublicKeyInfo in DER form."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def spiffe_uris(certificate: x509.Certificate) -> list[str]:
    """All SPIFFE URIs among the subject alternative names."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [uri for uri in names.get_values_for_type(x509.UniformResourceIdentifier) if uri.startswith(SCHEME)]


def common_name(certificate: x509.Certificate) -> str:
    """For messages: what people call the subject."""
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()


def read_chain(path: Path) -> tuple[x509.Certificate, ...]:
    """The certificates in a file, the node's own first. Raises CertificateUnreadable."""
    return parse_certificates(path, _read(path, "certificate"))


def read_key(path: Path, passphrase_file: Path | None = None) -> PrivateKeyTypes:
    """A private key; an encrypted one needs the file with its passphrase. Raises CertificateUnreadable."""
    content = _read(path, "private key")
    try:
        try:
            return load_pem_private_key(content, password=None)
        except TypeError:  # it is encrypted
            if passphrase_file is None:
                raise
        return load_pem_private_key(content, password=read_passphrase(passphrase_file))
    except TypeError:
        problem = "it is protected by a passphrase: name the file that holds it in SWARM_ID_KEY_PASSPHRASE_FILE"
        raise CertificateUnreadable(path=path, kind="private key", problem=problem) from None
    except (ValueError, UnsupportedAlgorithm):
        problem = "there is no PEM private key in it"
        if b"ENCRYPTED" in content and passphrase_file is not None:
            problem = f"the passphrase in {passphrase_file} does not open it"
        raise CertificateUnreadable(path=path, kind="private key", problem=problem) from None


def curve_key_in(path: Path) -> ec.EllipticCurvePrivateKey | None:
    """The private key in a file, by which others know its node; None if it is no intact elliptic curve key."""
    try:
        key = read_key(path)
    except CertificateUnreadable:
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def read_passphrase(path: Path) -> bytes:
    """Raises CertificateUnreadable."""
    lines = _read(path, "passphrase").splitlines()
    if not lines or not lines[0]:
        raise CertificateUnreadable(path=path, kind="passphrase", problem="its first line is empty")
    return lines[0]


def read_certificates(path: Path) -> tuple[x509.Certificate, ...]:
    """The CA certificates in a file. Raises CertificateUnreadable."""
    return parse_certificates(path, _read(path, "CA certificate"))


def certificates_in(directory: Path) -> list[x509.Certificate]:
    """The CA certificates in a directory. Other files (a key, a README) are ignored. Raises CertificateUnreadable, also
    if there is no certificate at all.
    """
    try:
        files = sorted(path for path in directory.iterdir() if path.is_file())
    except OSError as error:
        problem = error.strerror or str(error)
        raise CertificateUnreadable(path=directory, kind="directory of CA certificates", problem=problem) from None
    found: list[x509.Certificate] = []
    for path in files:
        content = _read(path, "CA certificate")
        if _BEGIN_CERTIFICATE in content:
            found.extend(parse_certificates(path, content))
    if not found:
        problem = "no file in it holds a certificate"
        raise CertificateUnreadable(path=directory, kind="directory of CA certificates", problem=problem)
    return found


def parse_certificates(path: Path, content: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates in PEM ``content``. Raises CertificateUnreadable."""
    try:
        return tuple(x509.load_pem_x509_certificates(content))
    except (ValueError, x509.InvalidVersion):
        problem = "there is no PEM certificate in it"
        if _BEGIN_CERTIFICATE in content:
            problem = "it is damaged"
        raise CertificateUnreadable(path=path, kind="certificate", problem=problem) from None


def as_pem(certificates: Iterable[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def time_in_words(moment: datetime) -> str:
    """The time at which a certificate begins or ends, in UTC."""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def _read(path: Path, kind: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        problem = cast(str, error.strerror) or str(error)
        raise CertificateUnreadable(path=path, kind=kind, problem=problem) from None


def authority_of(certificate: x509.Certificate) -> str:
    """16 hexadecimal digits that identify the issuer of a certificate; the same after a renewal."""
    digest = hashlib.sha256(certificate.issuer.public_bytes())
    with contextlib.suppress(x509.ExtensionNotFound):
        extension = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
        digest.update(extension.value.key_identifier or b"")
    return digest.hexdigest()[:16]
