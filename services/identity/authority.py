"""A development CA: creates itself and issues certificates to nodes. Real swarms use their organizations' CAs."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.errors import CertificateUnreadable, CertificateUntrusted, FileExists, RequestRefused, SettingsError
from services.identity.certificates import common_name, read_chain, read_key, spiffe_uris
from services.identity.files import CERT_MODE, KEY_MODE, make_directory, write_whole
from services.identity.peers import identity_of_certificate
from services.identity.requests import CertificateRequest, names_of
from services.identity.spiffe import SCHEME, SpiffeId
from services.identity.verification import check_dates, check_key

CA_CERT = "ca-cert.pem"
CA_KEY = "ca-key.pem"
CA_LIFETIME = timedelta(days=3650)
NODE_LIFETIME = timedelta(days=365)
CLOCK_SKEW = timedelta(minutes=5)  # a node whose clock is a little behind accepts a fresh certificate


@dataclass(frozen=True)
class IssuedFiles:
    """The paths of a node's certificate, its key and the CA that issued it."""

    cert: Path
    key: Path
    cacert: Path


@dataclass(frozen=True)
class Authority:
    """A CA in a directory: ``ca-cert.pem`` and ``ca-key.pem`` (0600)."""

    directory: Path
    trust_domain: str
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(
        cls, directory: Path, organization: str, trust_domain: str = "swarm.local", *, force: bool = False
    ) -> Self:
        """Creates a CA. Raises FileExists if there is one already, SettingsError, StorageError."""
        try:
            SpiffeId(trust_domain, "sn", "any")
            subject = x509.Name(
                [
                    x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
                    x509.NameAttribute(NameOID.COMMON_NAME, f"{organization} swarm CA"[:64]),
                ]
            )
        except ValueError as error:
            raise SettingsError(name="--organization or --trust-domain", problem=error, command="certs ca") from None
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        certificate = (
            _builder(subject, subject, key.public_key(), now - CLOCK_SKEW, now + CA_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"{SCHEME}{trust_domain}")]),
                critical=False,
            )
            .sign(key, hashes.SHA256())
        )
        make_directory(directory)
        _write_pair(directory / CA_CERT, certificate, directory / CA_KEY, key, force=force)
        return cls(directory=directory, trust_domain=trust_domain, certificate=certificate, key=key)

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Opens the CA that ``create`` made here. Raises CertificateUnreadable, CertificateExpired, KeyMismatch."""
        cert_path, key_path = directory / CA_CERT, directory / CA_KEY
        certificate, key = read_chain(cert_path)[0], read_key(key_path)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise CertificateUnreadable(path=key_path, kind="CA key", problem="it is not an elliptic curve key")
        check_key(cert_path, certificate, key_path, key)
        check_dates(cert_path, [certificate])
        uris = spiffe_uris(certificate)
        if len(uris) != 1:
            problem = f"it does not name its trust domain as a URI {SCHEME}<trust-domain>"
            raise CertificateUnreadable(path=cert_path, kind="CA certificate of a swarm", problem=problem)
        return cls(directory, uris[0].removeprefix(SCHEME), certificate, key)

    @property
    def cacert(self) -> Path:
        return self.directory / CA_CERT

    def issue(
        self,
        role: str,
        name: str,
        hosts: list[str],
        out_dir: Path,
        *,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        force: bool = False,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> IssuedFiles:
        """Issues a certificate for ``key``, or a new key, to a node that is reached at ``hosts`` (names or addresses).

        The certificate never outlives the CA. Raises SettingsError, FileExists, StorageError.
        """
        names = names_of(self.trust_domain, role, name, hosts)
        key = key or ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(key.public_key(), name, names, not_before, not_after)
        make_directory(out_dir)
        cert_path, key_path = out_dir / f"{role}-{name}-cert.pem", out_dir / f"{role}-{name}-key.pem"
        _write_pair(cert_path, certificate, key_path, key, force=force)
        return IssuedFiles(cert=cert_path, key=key_path, cacert=self.cacert)

    def renew(
        self, path: Path, not_after: datetime | None = None, new_key: ec.EllipticCurvePublicKey | None = None
    ) -> x509.Certificate:
        """A new certificate with the names of one that this CA issued, in the file ``path``; for its key, or
        ``new_key``.

        Raises CertificateUnreadable, CertificateUntrusted if another CA issued it, IdentityError if it names no node.
        """
        before = read_chain(path)[0]
        try:
            before.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature):
            raise CertificateUntrusted(path=path, name=common_name(before), trust=self.cacert) from None
        identity = identity_of_certificate(before.public_bytes(Encoding.DER))
        public_key = new_key or before.public_key()
        if not isinstance(public_key, ec.EllipticCurvePublicKey):
            raise CertificateUnreadable(path=path, kind="certificate", problem="its key is not an elliptic curve key")
        names = before.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return self._certificate(public_key, identity.name, names, None, not_after)

    def sign(self, request: CertificateRequest, not_after: datetime | None = None) -> x509.Certificate:
        """A certificate for the key and the names of a request; nothing else in the request counts.

        Raises RequestRefused if the request is for another trust domain.
        """
        if request.spiffe_id.trust_domain != self.trust_domain:
            problem = f"it is for the trust domain {request.spiffe_id.trust_domain}, this CA is for {self.trust_domain}"
            raise RequestRefused(path=request.path, problem=problem)
        spiffe_id = request.spiffe_id
        names = names_of(self.trust_domain, spiffe_id.role, spiffe_id.name, list(request.hosts))
        return self._certificate(request.public_key, spiffe_id.name, names, None, not_after)

    def _certificate(
        self,
        public_key: ec.EllipticCurvePublicKey,
        name: str,
        names: x509.SubjectAlternativeName,
        not_before: datetime | None,
        not_after: datetime | None,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        begin = not_before or min(now, not_after or now) - CLOCK_SKEW
        end = min(not_after or now + NODE_LIFETIME, self.certificate.not_valid_after_utc)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return (
            _builder(self.certificate.subject, subject, public_key, begin, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(names, critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )


def _builder(
    issuer: x509.Name, subject: x509.Name, public_key: ec.EllipticCurvePublicKey, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write_pair(
    cert_path: Path, certificate: x509.Certificate, key_path: Path, key: ec.EllipticCurvePrivateKey, *, force: bool
) -> None:
    """Writes the key first, so that no certificate is ever there without its key."""
    if not force:
        for path in (key_path, cert_path):
            if path.exists():
                raise FileExists(path=path)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_whole(key_path, pem, KEY_MODE, force=force)
    write_whole(cert_path, certificate.public_bytes(Encoding.PEM), CERT_MODE, force=force)
