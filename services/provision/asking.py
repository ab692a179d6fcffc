"""A kit's file of the certificates that its organization's CA shall issue. Keys and requests are made from it where the
nodes run.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field

from services.identity.certificates import read_passphrase
from services.identity.requests import make_request
from services.identity.spiffe import SpiffeId
from services.provision.project import Host, NodeName, Project, ProjectOrganization, Role
from services.tasks.document import read_document
from services.tasks.validation import Schema, validate

# Below certs/. Each node has its own directory, which its container mounts, so that it sees files put there later.
KEY = "{name}/{name}-key.pem"
CERT = "{name}/{name}-cert.pem"
REQUEST = "{name}/{name}.csr"
PASSPHRASE = "passphrase"  # noqa: S105  # the name of a file

_HEAD = """# Certificates that the nodes of this kit need. Where they run:
#   swarm certs request certs/requests.yaml        makes a key and a request for each; the keys stay here
#   swarm certs sign --dir YOUR-CA certs/*/*.csr   answers the requests, where your CA is
"""


class Wanted(Schema):
    """One certificate."""

    name: NodeName
    role: Role
    hosts: Annotated[list[Host], Field(min_length=1, max_length=50)]


class Requests(Schema):
    """All certificates of a kit. ``encrypted_keys``: by the passphrase in the file PASSPHRASE beside this one."""

    trust_domain: str
    encrypted_keys: bool = False
    nodes: Annotated[list[Wanted], Field(min_length=1, max_length=1000)]


@dataclass(frozen=True)
class Made:
    """Requests to a CA: new ones, and earlier ones that still wait."""

    new: list[Path]
    waiting: list[Path]


def as_text(project: Project, organization: ProjectOrganization) -> str:
    """The file for an organization."""
    nodes = [{"name": it.name, "role": it.role, "hosts": it.certificate_hosts} for it in organization.nodes]
    encrypted = {"encrypted_keys": True} if organization.encrypted_keys else {}
    asked = {"trust_domain": project.trust_domain_of(organization), **encrypted, "nodes": nodes}
    return _HEAD + yaml.safe_dump(asked, sort_keys=False)


def make_requests(path: Path) -> Made:
    """Makes ``NAME/NAME-key.pem`` and ``NAME/NAME.csr`` beside the file for each node without a key. Replaces nothing.

    Raises FileUnreadable, DocumentUnusable, CertificateUnreadable if a passphrase is needed and missing, SettingsError,
    FileExists, StorageError.
    """
    document = read_document(path, str(path))
    wanted = validate(document, Requests)
    passphrase = read_passphrase(path.parent / PASSPHRASE) if wanted.encrypted_keys else None
    made = Made([], [])
    for index, node in enumerate(wanted.nodes):
        key, request, cert = (path.parent / name.format(name=node.name) for name in (KEY, REQUEST, CERT))
        if key.exists():
            if not cert.exists() and request.exists():
                made.waiting.append(request)
            continue
        try:
            spiffe_id = SpiffeId(wanted.trust_domain, node.role, node.name)
        except ValueError as error:
            raise document.problem(("nodes", index), str(error)) from None
        make_request(spiffe_id, node.hosts, key, request, passphrase)
        made.new.append(request)
    return made
