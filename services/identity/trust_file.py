"""The trust file: the organizations that share a swarm, with their CAs and what these may issue."""

import re
from pathlib import Path
from typing import Annotated, Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pydantic import AfterValidator, Field, StringConstraints

from services.errors import CertificateUnreadable, DocumentUnusable, TrustFileUnusable
from services.identity.certificates import parse_certificates, spiffe_uris
from services.identity.organizations import MOST_CAS, ORGANIZATION_NAME, Organization
from services.identity.revocations import RevocationList
from services.identity.spiffe import SCHEME, SpiffeId
from services.tasks.document import SIZE_LIMIT_BYTES, Document, parse
from services.tasks.document import Path as KeyPath
from services.tasks.validation import Schema, validate

MOST_ORGANIZATIONS = 1000
MOST_FILES = 16
MOST_PATTERNS = 1000
CA_FILE_BYTES = 1024 * 1024

# With other curves, cryptography's verifier finds no chain of trust.
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_PATTERN = re.compile(r"[A-Za-z0-9*][A-Za-z0-9._*-]{0,63}")


def _trust_domain(text: str) -> str:
    SpiffeId(text, "sn", "any")
    return text


def _pattern(text: str) -> str:
    if not _PATTERN.fullmatch(text):
        raise ValueError("a name is needed, or a part of one with '*' (1 to 64 letters, digits, '.', '-', '_', '*')")
    return text


Role = Literal["sn", "sl", "swop", "swci", "admin", "license"]
File = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Patterns = Annotated[list[Annotated[str, AfterValidator(_pattern)]], Field(min_length=1, max_length=MOST_PATTERNS)]


class TrustedOrganization(Schema):
    """``cas``: files with CA certificates, named from the directory of the trust file. ``issues``: names, by role.

    ``crls``: files with revocation lists of these CAs.
    """

    name: Annotated[str, StringConstraints(pattern=ORGANIZATION_NAME)]
    trust_domain: Annotated[str, AfterValidator(_trust_domain)]
    cas: Annotated[list[File], Field(min_length=1, max_length=MOST_FILES)]
    issues: Annotated[dict[Role, Patterns], Field(min_length=1)]
    crls: list[File] = Field([], max_length=MOST_FILES)


class TrustFile(Schema):
    """Everything in it."""

    organizations: Annotated[list[TrustedOrganization], Field(min_length=1, max_length=MOST_ORGANIZATIONS)]


def read_trust_file(path: Path) -> tuple[Organization, ...]:
    """Raises TrustFileUnusable with file, line and key path of the first problem."""
    try:
        document, read = parsed(_read(path), str(path))
        return tuple(_organization(document, index, one, path.parent) for index, one in enumerate(read.organizations))
    except DocumentUnusable as error:
        raise TrustFileUnusable(**error.facts) from None


def files_of(path: Path) -> tuple[Path, ...]:
    """A trust file and the files that it names. Raises TrustFileUnusable."""
    try:
        _, read = parsed(_read(path), str(path))
    except DocumentUnusable as error:
        raise TrustFileUnusable(**error.facts) from None
    return (path, *(path.parent / name for one in read.organizations for name in (*one.cas, *one.crls)))


def parsed(raw: bytes, source: str) -> tuple[Document, TrustFile]:
    """The content of the file itself, without the files that it names. Raises DocumentUnusable."""
    document = parse(raw, source)
    read = validate(document, TrustFile)
    _check_names(document, read)
    return document, read


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(SIZE_LIMIT_BYTES + 1)
    except OSError as error:
        problem = (error.strerror or str(error)).lower()
        raise TrustFileUnusable(source=str(path), line=1, path="file", problem=problem) from None


def _check_names(document: Document, read: TrustFile) -> None:
    seen: dict[str, int] = {}
    for index, one in enumerate(read.organizations):
        where: KeyPath = ("organizations", index, "name")
        if one.name in seen:
            raise document.problem(where, f"'{one.name}' is the name of another one (line {seen[one.name]})")
        seen[one.name] = document.line(where)


def _organization(document: Document, index: int, read: TrustedOrganization, beside: Path) -> Organization:
    cas = _cas(document, index, read, beside)
    revoked = []
    for number, name in enumerate(read.crls):
        try:
            revoked.append(RevocationList(beside / name, cas))
        except ValueError as error:
            raise document.problem(("organizations", index, "crls", number), f"{beside / name}: {error}") from None
    issues: dict[str, tuple[str, ...]] = {role: tuple(patterns) for role, patterns in read.issues.items()}
    return Organization(read.name, read.trust_domain, cas, issues, tuple(revoked))


def _cas(
    document: Document, index: int, organization: TrustedOrganization, beside: Path
) -> tuple[x509.Certificate, ...]:
    found: dict[x509.Certificate, None] = {}
    for number, name in enumerate(organization.cas):
        where: KeyPath = ("organizations", index, "cas", number)
        for certificate in _certificates(document, where, beside / name):
            check_ca(document, where, name, certificate, organization.trust_domain)
            found[certificate] = None
    if len(found) > MOST_CAS:
        where = ("organizations", index, "cas")
        raise document.problem(where, f"these are {len(found)} CAs, and at most {MOST_CAS} are allowed")
    return tuple(found)


def _certificates(document: Document, where: KeyPath, file: Path) -> tuple[x509.Certificate, ...]:
    try:
        with file.open("rb") as opened:
            content = opened.read(CA_FILE_BYTES + 1)
    except OSError as error:
        raise document.problem(where, f"{file} cannot be read: {(error.strerror or str(error)).lower()}") from None
    if len(content) > CA_FILE_BYTES:
        raise document.problem(where, f"{file} has more than {CA_FILE_BYTES:,} bytes")
    try:
        return parse_certificates(file, content)
    except CertificateUnreadable as error:
        raise document.problem(where, f"{file} holds no CA certificate: {error.facts['problem']}") from None


def check_ca(document: Document, where: KeyPath, name: str, certificate: x509.Certificate, trust_domain: str) -> None:
    """Raises DocumentUnusable if it is not a CA of this trust domain, or no chain can end in this kind of key."""
    try:
        is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        uris = spiffe_uris(certificate)
        key = certificate.public_key()
    except x509.ExtensionNotFound:
        is_ca = False
    except Exception as error:  # anything may be in it: others have written this file
        raise document.problem(where, f"{name} holds a certificate that cannot be used: {error}") from None
    if not is_ca:
        raise document.problem(where, f"{name} is the certificate of a node, not of a CA")
    if not isinstance(key, rsa.RSAPublicKey) and not (
        isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES
    ):
        raise document.problem(where, f"the key of {name} is not of RSA or of a curve of NIST (P-256, P-384, P-521)")
    for uri in uris:
        if (theirs := uri.removeprefix(SCHEME)) != trust_domain:
            raise document.problem(where, f"{name} is for the trust domain {theirs}, not for {trust_domain}")
