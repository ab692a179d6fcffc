"""The text files of a kit beside certificates and keys, by path. This module writes nothing."""

from dataclasses import dataclass

from services.provision import asking, compose_file, readme, scripts_files, settings_files
from services.provision.project import Project, ProjectOrganization

TEXT_MODE = 0o644
SCRIPT_MODE = 0o755

_POLICY = """# What tasks may do on this host (docs/swop.md): a person confirms each one; none is privileged.
approval: every
privileged: []
bindsources: []
"""


@dataclass(frozen=True)
class KitFile:
    """``mode``: file permissions."""

    text: str
    mode: int = TEXT_MODE


def files(project: Project, organization: ProjectOrganization) -> dict[str, KitFile]:
    """The files by path within the kit."""
    found = {
        "README.md": KitFile(readme.as_text(project, organization)),
        "compose.yaml": KitFile(compose_file.as_text(project, organization)),
        "start": KitFile(scripts_files.start(organization), SCRIPT_MODE),
        "check": KitFile(scripts_files.check(project, organization), SCRIPT_MODE),
    }
    for node in organization.nodes:
        found[f"nodes/{node.name}.env"] = KitFile(settings_files.as_text(project, organization, node))
        if node.role != "admin":
            found[f"data/{node.name}/.keep"] = KitFile("")
    for node in organization.of_role("sl"):
        found["train"] = KitFile(scripts_files.train(organization), SCRIPT_MODE)
        found |= {path: KitFile("") for path in (f"pipes/{node.name}/.keep", "programs/.keep", "out/.keep")}
    if organization.of_role("swop"):
        found["usr/policy.yaml"] = KitFile(_POLICY)
    elif organization.of_role("swci"):
        found["usr/.keep"] = KitFile("")
    if organization.ca is not None:
        found["certs/requests.yaml"] = KitFile(asking.as_text(project, organization))
    return found
