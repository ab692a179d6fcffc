"""Writes the kits of a project into a directory. A further run keeps what is there and makes only what is new."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from services.errors import IdentityError, StorageError
from services.identity.authority import CA_CERT, Authority
from services.identity.certificates import curve_key_in, read_chain, read_key
from services.identity.files import CERT_MODE, make_directory, write_whole
from services.identity.identity import Identity
from services.identity.peers import read_trust
from services.identity.requests import CertificateRequest, make_request, read_request
from services.identity.spiffe import SpiffeId
from services.provision import kit, trust
from services.provision.archive import pack
from services.provision.asking import CERT, KEY, REQUEST
from services.provision.project import Project, ProjectNode, ProjectOrganization

CA_DIRECTORY = "ca"
RENEW_BEFORE = timedelta(days=30)
PRIVATE = 0o700


@dataclass
class Provisioned:
    """What was done for one kit. ``written``: new or changed files. ``archive``: the archive, if one was made."""

    organization: str
    directory: Path
    is_new: bool
    written: list[str] = field(default_factory=list)
    archive: Path | None = None


def make_kits(project: Project, beside: Path, out: Path, *, archives: bool, encrypted: bool) -> list[Provisioned]:
    """``beside``: the directory of the project file, to which the paths of CA files are relative.

    Raises IdentityError for a CA or a certificate that cannot be read, StorageError.
    """
    _make_private(out)
    authority = None
    if any(organization.ca is None for organization in project.organizations):
        ca = out / CA_DIRECTORY
        known = (ca / CA_CERT).exists()
        authority = Authority.open(ca) if known else Authority.create(ca, project.project, project.trust_domain)
    trusted = _trusted(project, beside, authority)
    return [
        _Kit(project, organization, out / "kits" / organization.name, authority, trusted).make(archives, encrypted)
        for organization in project.organizations
    ]


def _trusted(project: Project, beside: Path, authority: Authority | None) -> dict[str, bytes]:
    """The trust file and the files that it names, by path within each kit. The trust file is last, as running nodes
    read it when it changes.
    """
    found: dict[str, bytes] = {}
    for organization in project.organizations:
        if organization.ca is not None:
            cas = read_trust(beside / organization.ca, None).certificates
        else:
            cas = () if authority is None else (authority.certificate,)
        found[trust.cas_of(organization)] = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in cas)
        found |= trust.lists(organization, beside)
    return {**found, trust.TRUST: trust.as_text(project).encode()}


class _Kit:
    def __init__(
        self,
        project: Project,
        organization: ProjectOrganization,
        directory: Path,
        authority: Authority | None,
        trusted: Mapping[str, bytes],
    ) -> None:
        self._project, self._organization, self._directory = project, organization, directory
        self._authority, self._trusted = authority, trusted
        self._files: list[str] = []
        self._done = Provisioned(organization.name, directory, is_new=not directory.exists())

    def make(self, archives: bool, encrypted: bool) -> Provisioned:
        _make_private(self._directory)
        for path, file in kit.files(self._project, self._organization).items():
            self._write(path, file.text.encode(), file.mode)
        for path, content in self._trusted.items():
            self._write(path, content, CERT_MODE)
        if self._organization.ca is None and self._authority is not None:
            for node in self._organization.nodes:
                self._certify(node, self._authority)
        if archives or encrypted:
            self._pack(encrypted)
        return self._done

    def _write(self, path: str, content: bytes, mode: int) -> None:
        self._files.append(path)
        target = self._directory / path
        try:
            if target.is_file() and target.read_bytes() == content:
                return
        except OSError as error:
            raise StorageError(path=target, problem=error.strerror or str(error)) from None
        make_directory(target.parent)
        write_whole(target, content, mode, force=True)
        self._done.written.append(path)

    def _certify(self, node: ProjectNode, authority: Authority) -> None:
        """Certifies a node, unless it has a suitable certificate: with all names, from this CA, valid for more than a
        month.
        """
        paths = [f"certs/{name.format(name=node.name)}" for name in (KEY, CERT, REQUEST)]
        key, cert, request = (self._directory / path for path in paths)
        self._files += paths[:2]
        if self._fits(node, cert, key, authority):
            return
        spiffe_id = SpiffeId(authority.trust_domain, node.role, node.name)
        if (known := curve_key_in(key)) is not None:  # kept, as others know the node by its key
            asked = CertificateRequest(cert, spiffe_id, tuple(node.certificate_hosts), known.public_key())
            self._done.written.append(paths[1])
        else:
            key.unlink(missing_ok=True)
            make_request(spiffe_id, node.certificate_hosts, key, request)
            asked = read_request(request)
            request.unlink()
            self._done.written += paths[:2]
        write_whole(cert, authority.sign(asked).public_bytes(Encoding.PEM), CERT_MODE, force=True)

    def _fits(self, node: ProjectNode, cert: Path, key: Path, authority: Authority) -> bool:
        if not (cert.exists() and key.exists()):
            return False
        try:
            Identity.load(cert=cert, key=key, cacert=authority.cacert, expected_role=node.role)
            certificate, _ = read_chain(cert)[0], read_key(key)
        except IdentityError:
            return False
        if certificate.not_valid_after_utc - datetime.now(UTC) < RENEW_BEFORE:
            return False
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
        return set(hosts) == set(node.certificate_hosts)

    def _pack(self, encrypted: bool) -> None:
        archive = self._directory.parent.parent / f"{self._organization.name}.zip"
        if pack(self._directory, self._files, archive, encrypted=encrypted, anew=bool(self._done.written)):
            self._done.archive = archive


def _make_private(directory: Path) -> None:
    make_directory(directory)
    try:
        directory.chmod(PRIVATE)
    except OSError as error:
        raise StorageError(path=directory, problem=error.strerror or str(error)) from None
