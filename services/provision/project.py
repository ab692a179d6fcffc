"""The project file: the organizations that take part, with their nodes, addresses, ports and CAs."""

import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from cryptography import x509
from pydantic import AfterValidator, Field, StringConstraints

from services.errors import CertificateUnreadable
from services.identity.certificates import read_chain
from services.identity.revocations import RevocationList
from services.identity.spiffe import SpiffeId
from services.identity.trust_file import MOST_FILES, check_ca
from services.tasks.document import Document, read_document
from services.tasks.document import Path as KeyPath
from services.tasks.validation import Schema, validate

MAX_PORT = 65535
DEFAULT_PORTS = {"license": 5814, "sn": 30304, "sl": 30305, "swci": 30306}
DEFAULT_P2P_PORT = 30303
REACHED = frozenset({"license", "sn", "sl"})  # by other organizations' nodes, so they need an address

_DNS_NAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
)


def _host(text: str) -> str:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        if not _DNS_NAME.fullmatch(text):
            raise ValueError("a host name or an IP address is needed, without a port") from None
    return text


def _trust_domain(text: str) -> str:
    SpiffeId(text, "sn", "any")
    return text


def _node_name(text: str) -> str:
    SpiffeId("swarm.local", "sn", text)
    return text


Host = Annotated[str, AfterValidator(_host)]
Port = Annotated[int, Field(ge=1, le=MAX_PORT)]
Word = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
NodeName = Annotated[str, AfterValidator(_node_name)]
TrustDomain = Annotated[str, AfterValidator(_trust_domain)]
FileName = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Role = Literal["license", "sn", "sl", "swop", "swci", "admin"]


class ProjectNode(Schema):
    """``address``: at which other nodes reach it. ``hosts``: further host names and addresses for its certificate."""

    name: NodeName
    role: Role
    address: Host | None = None
    port: Port | None = None
    p2p_port: Port | None = None
    sn: NodeName | None = None
    hosts: list[Host] = Field([], max_length=20)

    @property
    def listens_on(self) -> int:
        """The node's port; 0 if it has none."""
        return self.port or DEFAULT_PORTS.get(self.role, 0)

    @property
    def p2p(self) -> int:
        """An SN's port for the chain; 0 for other nodes."""
        return (self.p2p_port or DEFAULT_P2P_PORT) if self.role == "sn" else 0

    @property
    def certificate_hosts(self) -> list[str]:
        """All names by which the node may be called."""
        return list(dict.fromkeys([*([self.address] if self.address else []), *self.hosts, "localhost", "127.0.0.1"]))


class ProjectOrganization(Schema):
    """``ca``: file with the certificate of the organization's own CA. Without it, the project's CA issues for it.

    ``trust_domain``: of its CA, if not the project's. ``crls``: files with its revocation lists.
    ``encrypted_keys``: whether its nodes' keys are encrypted, with a passphrase that never leaves its sites.
    """

    name: Word
    ca: FileName | None = None
    trust_domain: TrustDomain | None = None
    crls: list[FileName] = Field([], max_length=MOST_FILES)
    encrypted_keys: bool = False
    nodes: Annotated[list[ProjectNode], Field(min_length=1, max_length=1000)]

    def of_role(self, role: str) -> list[ProjectNode]:
        """The organization's nodes of a role."""
        return [node for node in self.nodes if node.role == role]


class Project(Schema):
    """The first SN in the file is the sentinel, which founds the swarm."""

    project: Word
    trust_domain: TrustDomain = "swarm.local"
    organizations: Annotated[list[ProjectOrganization], Field(min_length=1, max_length=1000)]

    @property
    def nodes(self) -> list[ProjectNode]:
        """All nodes, in the order of the file."""
        return [node for organization in self.organizations for node in organization.nodes]

    @property
    def license_server(self) -> ProjectNode:
        """The project's license server."""
        return next(node for node in self.nodes if node.role == "license")

    @property
    def sentinel(self) -> ProjectNode:
        """The SN that the others join."""
        return next(node for node in self.nodes if node.role == "sn")

    def trust_domain_of(self, organization: ProjectOrganization) -> str:
        """The trust domain in an organization's certificates."""
        return organization.trust_domain or self.trust_domain

    def sn_of(self, node: ProjectNode, organization: ProjectOrganization) -> ProjectNode:
        """The SN that a node talks to: the one it names, the first of its organization, or the first of all."""
        if node.sn is not None:
            return next(other for other in self.nodes if other.name == node.sn)
        return next(iter(organization.of_role("sn")), self.sentinel)


def read_project(path: Path) -> Project:
    """Raises FileUnreadable, and DocumentUnusable with file, line and key path for the first fault."""
    document = read_document(path, str(path))
    project = validate(document, Project)
    _check_names(document, project)
    _check_roles(document, project)
    _check_addresses(document, project)
    for index, organization in enumerate(project.organizations):
        where: KeyPath = ("organizations", index)
        if organization.ca is not None:
            domain = project.trust_domain_of(organization)
            cas = _cas(document, (*where, "ca"), path.parent / organization.ca, domain)
            for number, name in enumerate(organization.crls):
                _check_list(document, (*where, "crls", number), path.parent / name, cas)
        else:
            _check_has_no_ca(document, where, organization)
    return project


def _nodes(project: Project) -> Iterator[tuple[KeyPath, ProjectNode]]:
    for index, organization in enumerate(project.organizations):
        for position, node in enumerate(organization.nodes):
            yield ("organizations", index, "nodes", position), node


def _check_names(document: Document, project: Project) -> None:
    seen: dict[str, KeyPath] = {}
    organizations: Iterator[tuple[KeyPath, ProjectOrganization]] = (
        (("organizations", index), it) for index, it in enumerate(project.organizations)
    )
    for path, organization in organizations:
        if organization.name in seen:
            line = document.line(seen[organization.name])
            raise document.problem((*path, "name"), f"'{organization.name}' is the name of another one (line {line})")
        seen[organization.name] = (*path, "name")
    # Files of a kit are named after nodes, and members know each other by name.
    named: dict[str, KeyPath] = {}
    for path, node in _nodes(project):
        if (key := node.name.lower()) in named:
            line = document.line(named[key])
            raise document.problem((*path, "name"), f"'{node.name}' is the name of another node (line {line})")
        named[key] = (*path, "name")


def _check_roles(document: Document, project: Project) -> None:
    licenses = [path for path, node in _nodes(project) if node.role == "license"]
    if len(licenses) != 1:
        where = (*licenses[1], "role") if licenses else ("organizations",)
        found = f"the first is in line {document.line(licenses[0])}" if licenses else "there is none"
        raise document.problem(where, f"a project needs exactly one node of the role license; {found}")
    sns = {node.name for node in project.nodes if node.role == "sn"}
    if not sns:
        raise document.problem(("organizations",), "a project needs a node of the role sn, and there is none")
    for path, node in _nodes(project):
        if node.sn is not None and node.sn not in sns:
            raise document.problem((*path, "sn"), f"no SN is named '{node.sn}'; there are {', '.join(sorted(sns))}")
        if node.sn is not None and node.role in ("license", "sn", "admin"):
            raise document.problem((*path, "sn"), f"a node of the role {node.role} is given no SN")
        if node.port is not None and node.role not in DEFAULT_PORTS:
            raise document.problem((*path, "port"), f"nobody calls a node of the role {node.role}: it has no port")
        if node.p2p_port is not None and node.role != "sn":
            raise document.problem((*path, "p2p_port"), "only an SN has a port of the chain")


def _check_addresses(document: Document, project: Project) -> None:
    taken: dict[tuple[str, int], KeyPath] = {}
    for path, node in _nodes(project):
        if node.role in REACHED and node.address is None:
            raise document.problem(
                (*path, "address"), f"others call a node of the role {node.role}: it needs an address"
            )
        for key, port in (("port", node.listens_on), ("p2p_port", node.p2p)):
            if node.address is None or not port:
                continue
            if (node.address, port) in taken:
                line = document.line(taken[node.address, port])
                raise document.problem((*path, key), f"port {port} of {node.address} is another one's (line {line})")
            taken[node.address, port] = (*path, key)


def _check_has_no_ca(document: Document, where: KeyPath, organization: ProjectOrganization) -> None:
    """Refuses settings that only make sense with the organization's own CA."""
    for key in ("trust_domain", "crls", "encrypted_keys"):
        if getattr(organization, key):
            raise document.problem((*where, key), "this is of an organization's own CA: give ca too")


def _check_list(document: Document, where: KeyPath, file: Path, cas: tuple[x509.Certificate, ...]) -> None:
    try:
        RevocationList(file, cas)
    except ValueError as error:
        raise document.problem(where, f"{file}: {error}") from None


def _cas(document: Document, where: KeyPath, file: Path, trust_domain: str) -> tuple[x509.Certificate, ...]:
    try:
        certificates = read_chain(file)
    except CertificateUnreadable as error:
        raise document.problem(where, f"{file} holds no CA certificate: {error.facts['problem']}") from None
    for certificate in certificates:
        check_ca(document, where, str(file), certificate, trust_domain)
    return certificates
