"""Certificate requests: a node's key is made where the node runs, and only what the CA must know leaves the host."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from services.errors import RequestRefused, SettingsError
from services.identity.files import CERT_MODE, KEY_MODE, make_directory, write_whole
from services.identity.spiffe import SCHEME, SpiffeId

MAX_REQUEST_BYTES = 64 * 1024
MAX_HOSTS = 50


@dataclass(frozen=True)
class CertificateRequest:
    """A request, signed by the holder of the key. ``hosts``: names and addresses of the node."""

    path: Path
    spiffe_id: SpiffeId
    hosts: tuple[str, ...]
    public_key: ec.EllipticCurvePublicKey


def make_request(
    spiffe_id: SpiffeId, hosts: Sequence[str], key_path: Path, request_path: Path, passphrase: bytes | None = None
) -> None:
    """Writes a new key, encrypted if a passphrase is given, and a certificate request for it.

    Raises FileExists, SettingsError, StorageError.
    """
    names = names_of(spiffe_id.trust_domain, spiffe_id.role, spiffe_id.name, list(hosts))
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, spiffe_id.name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject).add_extension(names, critical=False)
    request = builder.sign(key, hashes.SHA256())
    for path in (key_path, request_path):
        make_directory(path.parent)
    encryption: KeySerializationEncryption = (
        NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    write_whole(key_path, pem, KEY_MODE, force=False)
    write_whole(request_path, request.public_bytes(Encoding.PEM), CERT_MODE, force=True)


def read_request(path: Path) -> CertificateRequest:
    """Raises RequestRefused if it is not a request, is not signed by the holder of its key, or names no node."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_REQUEST_BYTES + 1)
    except OSError as error:
        raise RequestRefused(path=path, problem=f"it cannot be read: {error.strerror or error}") from None
    try:
        return _parsed(path, raw[:MAX_REQUEST_BYTES])
    except (ValueError, UnsupportedAlgorithm, InvalidSignature, x509.InvalidVersion, x509.DuplicateExtension) as error:
        problem = str(error) or "it is not signed with the key that it names"
        raise RequestRefused(path=path, problem=problem.partition("\n")[0].rstrip(".")) from None


def _parsed(path: Path, raw: bytes) -> CertificateRequest:
    if b"-----BEGIN CERTIFICATE REQUEST-----" not in raw:
        raise ValueError("there is no PEM certificate request in it")
    request = x509.load_pem_x509_csr(raw)
    if not request.is_signature_valid:
        raise ValueError("it is not signed with the key that it names")
    public_key = request.public_key()
    if not (isinstance(public_key, ec.EllipticCurvePublicKey) and isinstance(public_key.curve, ec.SECP256R1)):
        raise ValueError("its key is not one of the curve P-256")
    try:
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise ValueError("it names no node") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise ValueError(f"it holds {len(uris)} URIs of the form {SCHEME}<trust-domain>/<role>/<name>, not one")
    hosts = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    if len(hosts) > MAX_HOSTS or len(hosts) + 1 != len(list(names)):
        raise ValueError(f"it holds more than {MAX_HOSTS} names, or some that are neither hosts nor addresses")
    return CertificateRequest(path, SpiffeId.parse(uris[0]), tuple(hosts), public_key)


def names_of(trust_domain: str, role: str, name: str, hosts: list[str]) -> x509.SubjectAlternativeName:
    """The subject alternative names of a certificate. Raises SettingsError."""
    try:
        spiffe_id = SpiffeId(trust_domain, role, name)
        uri = x509.UniformResourceIdentifier(str(spiffe_id))
        return x509.SubjectAlternativeName([uri, *(_host_name(host) for host in hosts)])
    except ValueError as error:
        raise SettingsError(name="--role, --name or --host", problem=error, command="certs issue") from None


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if not host or any(character.isspace() or character in "/:," for character in host):
            raise ValueError(f"'{host}' is not a host name or address") from None
        return x509.DNSName(host)
