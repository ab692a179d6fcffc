"""The trust file of a project, the same in every kit: which CAs may issue for which nodes. This module
writes nothing.
"""

from pathlib import Path

import yaml

from services.errors import FileUnreadable
from services.provision.project import Project, ProjectOrganization

DIRECTORY = "trust"
TRUST = f"{DIRECTORY}/trust.yaml"

_HEAD = """# Whom the nodes of {project} trust: the CAs of each organization, and what these may issue.
# `swarm provision` makes it anew when the project changes; the same file is in every kit.
"""


def cas_of(organization: ProjectOrganization) -> str:
    """The path in a kit of an organization's CAs."""
    return f"{DIRECTORY}/{organization.name}-cas.pem"


def crls_of(organization: ProjectOrganization) -> dict[str, str]:
    """Paths in a kit of an organization's revocation lists, with the files that the project names."""
    return {f"{DIRECTORY}/{organization.name}-{n}.crl": name for n, name in enumerate(organization.crls, start=1)}


def lists(organization: ProjectOrganization, beside: Path) -> dict[str, bytes]:
    """An organization's revocation lists, by path within the kit. Raises FileUnreadable."""
    found = {}
    for path, name in crls_of(organization).items():
        try:
            found[path] = (beside / name).read_bytes()
        except OSError as error:
            raise FileUnreadable(path=beside / name, problem=error.strerror or str(error)) from None
    return found


def as_text(project: Project) -> str:
    """The trust file. Each organization may issue only for its nodes in the project, each in its role."""
    found = []
    for organization in project.organizations:
        issues: dict[str, list[str]] = {}
        for node in organization.nodes:
            issues.setdefault(node.role, []).append(node.name)
        files = {"cas": [_beside(cas_of(organization))], "issues": issues}
        crls = [_beside(path) for path in crls_of(organization)]
        domain = project.trust_domain_of(organization)
        found.append({"name": organization.name, "trust_domain": domain, **files, **({"crls": crls} if crls else {})})
    return _HEAD.format(project=project.project) + yaml.safe_dump({"organizations": found}, sort_keys=False, width=120)


def _beside(path: str) -> str:
    return path.removeprefix(f"{DIRECTORY}/")
