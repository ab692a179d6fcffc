"""The compose file of a kit: its nodes, and for each SL a training program that is started on demand."""

from typing import Any

import yaml

from services.provision.asking import PASSPHRASE
from services.provision.project import Project, ProjectNode, ProjectOrganization
from services.provision.settings_files import channel
from services.provision.trust import DIRECTORY as TRUST_DIRECTORY
from services.scripts.images import PREFIX

IMAGES = {"license": "license-server", "sn": "sn", "sl": "sl", "swop": "swop", "swci": "swci"}
INSIDE = "/kit"

_HEAD = """# The nodes of {organization} in {project}. README.md beside this file says how to start them.
# Variables, in the file .env beside it or in the shell:
#   RUN_AS       UID:GID of the owner of this directory (required)
#   IMAGES, TAG  where the images come from and which: IMAGES/sn:TAG; by default {images}/sn:latest
#   ML_IMAGE, PROGRAM   of the training programs, which start only when they are named: docker compose up -d ml-for-NAME
"""


def as_text(project: Project, organization: ProjectOrganization) -> str:
    """The file's text. It is rewritten when the project changes, so users put additions into compose.override.yaml."""
    services: dict[str, Any] = {}
    for node in organization.nodes:
        if node.role == "admin":
            continue
        services[node.name] = _node(node, encrypted_key=organization.encrypted_keys)
        if node.role == "sl":
            services[f"ml-for-{node.name}"] = _program(node)
    content = {"name": f"{project.project}-{organization.name}", "services": services}
    head = _HEAD.format(organization=organization.name, project=project.project, images=PREFIX)
    return head + yaml.safe_dump(content, sort_keys=False, width=120)


def _hardened() -> dict[str, Any]:
    return {
        "restart": "on-failure",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "user": "${RUN_AS:?give the owner of this directory as UID:GID}",
        "working_dir": INSIDE,
        "logging": {"options": {"max-size": "10m", "max-file": "3"}},
    }


def _node(node: ProjectNode, *, encrypted_key: bool) -> dict[str, Any]:
    # Directories, so that nodes see files moved into them: renewed certificates and keys, revocation lists.
    files = [f"certs/{node.name}", TRUST_DIRECTORY]
    if encrypted_key:
        files.append(f"certs/{PASSPHRASE}")
    found: dict[str, Any] = {
        "image": _image(IMAGES[node.role]),
        **_hardened(),
        "env_file": [f"nodes/{node.name}.env"],
        "volumes": [*(_mounted(file, read_only=True) for file in files), _mounted(f"data/{node.name}")],
    }
    if node.role in ("license", "sn", "sl"):
        found["ports"] = [f"{port}:{port}" for port in (node.listens_on, node.p2p) if port]
    if node.role == "sl":
        found["volumes"].append(_mounted(f"pipes/{node.name}"))
    if node.role == "swci":
        found["environment"] = {"SWCI_MODE": "WEB"}
        found["ports"] = [f"${{PUBLISH_ON:-127.0.0.1}}:{node.listens_on}:{node.listens_on}"]
    if node.role in ("swci", "swop"):
        found["volumes"].append(_mounted("usr", read_only=True))
    if node.role == "swop":
        # Access to Docker's socket already means root on the host; without capabilities, uid 0 adds nothing to that.
        found |= {"profiles": ["swop"], "user": "0:0"}
        found["security_opt"] = [*found["security_opt"], "label=type:container_runtime_t"]  # for SELinux
        found["volumes"].append("${DOCKER_SOCKET:-/var/run/docker.sock}:/var/run/docker.sock")
    return found


def _program(node: ProjectNode) -> dict[str, Any]:
    pipes = {name: f"{INSIDE}/{path}" for name, path in channel(node).items()}
    return {
        "image": "${ML_IMAGE:-" + _image("ml-keras") + "}",
        **_hardened(),
        "profiles": ["train"],
        "command": ["sh", "-c", "exec ${PROGRAM:-python3 programs/train.py}"],
        "environment": pipes,
        "tmpfs": ["/tmp"],  # noqa: S108
        "volumes": [_mounted(f"pipes/{node.name}"), _mounted("programs", read_only=True), _mounted("out")],
        "depends_on": [node.name],
    }


def _image(name: str) -> str:
    return f"${{IMAGES:-{PREFIX}}}/{name}:${{TAG:-latest}}"


def _mounted(path: str, *, read_only: bool = False) -> dict[str, Any]:
    """A mount. Docker reports a missing file instead of creating a directory. SELinux labels the file for
    containers.
    """
    found: dict[str, Any] = {"type": "bind", "source": f"./{path}", "target": f"{INSIDE}/{path}"}
    return {**found, **({"read_only": True} if read_only else {}), "bind": {"create_host_path": False, "selinux": "z"}}
