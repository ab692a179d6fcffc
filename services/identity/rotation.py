"""A new key for a node: replaces the old one together with its certificate, or goes to a CA elsewhere to be signed."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from services.identity.authority import Authority
from services.identity.certificates import fingerprint_of_key, read_chain, read_key, read_passphrase, spiffe_uris
from services.identity.files import CERT_MODE, KEY_MODE, write_whole
from services.identity.handover import Handover, handovers_in, to_pem
from services.identity.verification import check_key


@dataclass(frozen=True)
class NewKey:
    """``pem``: the key and the handovers that lead to it. ``old``: the certificate of the previous key."""

    key: ec.EllipticCurvePrivateKey
    pem: bytes
    old: x509.Certificate


def new_key(cert: Path, key: Path, passphrase_file: Path | None = None) -> NewKey:
    """A new key, encrypted if there is a passphrase. Raises CertificateUnreadable, KeyMismatch, HandoverRefused."""
    old_certificate, old_key = read_chain(cert)[0], read_key(key, passphrase_file)
    check_key(cert, old_certificate, key, old_key)
    new = ec.generate_private_key(ec.SECP256R1())
    handover = Handover.sign(spiffe_uris(old_certificate)[0], old_key, fingerprint_of_key(new.public_key()))
    encryption: KeySerializationEncryption = NoEncryption()
    if passphrase_file is not None:
        encryption = BestAvailableEncryption(read_passphrase(passphrase_file))
    pem = new.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return NewKey(new, pem + to_pem((*handovers_in(key.read_bytes()), handover.content)), old_certificate)


def rotate(
    cert: Path,
    key: Path,
    authority: Authority,
    not_after: datetime | None = None,
    passphrase_file: Path | None = None,
) -> x509.Certificate:
    """Replaces key and certificate with new ones.

    Raises what ``new_key`` and ``Authority.renew`` raise, StorageError.
    """
    new = new_key(cert, key, passphrase_file)
    certificate = authority.renew(cert, not_after, new.key.public_key())
    write_whole(key, new.pem, KEY_MODE, force=True)
    write_whole(cert, certificate.public_bytes(Encoding.PEM), CERT_MODE, force=True)
    return certificate


def request_rotation(cert: Path, key: Path, passphrase_file: Path | None = None) -> tuple[Path, Path]:
    """Writes the new key, ``KEY.new``, and a request for its certificate, ``KEY.csr``; the old ones stay.

    Raises what ``new_key`` raises, FileExists, StorageError.
    """
    new = new_key(cert, key, passphrase_file)
    names = new.old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    builder = x509.CertificateSigningRequestBuilder().subject_name(new.old.subject)
    request = builder.add_extension(names, critical=False).sign(new.key, hashes.SHA256())
    key_path, request_path = key.with_name(f"{key.name}.new"), key.with_name(f"{key.name}.csr")
    write_whole(key_path, new.pem, KEY_MODE, force=False)
    write_whole(request_path, request.public_bytes(Encoding.PEM), CERT_MODE, force=True)
    return key_path, request_path
