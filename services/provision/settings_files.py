"""The settings of each node of a kit, as variables in a file that Docker, shells and systemd read alike."""

from services.provision.asking import CERT, KEY, PASSPHRASE
from services.provision.project import Project, ProjectNode, ProjectOrganization
from services.provision.trust import TRUST


def variables(project: Project, organization: ProjectOrganization, node: ProjectNode) -> dict[str, str]:
    """A node's variables. Paths are relative to the kit."""
    return {
        "SWARM_ID_CERT": f"certs/{CERT.format(name=node.name)}",
        "SWARM_ID_KEY": f"certs/{KEY.format(name=node.name)}",
        **({"SWARM_ID_KEY_PASSPHRASE_FILE": f"certs/{PASSPHRASE}"} if organization.encrypted_keys else {}),
        "SWARM_ID_TRUST": TRUST,
        **_license(project, node),
        **_OF_ROLE[node.role](project, organization, node),
    }


def as_text(project: Project, organization: ProjectOrganization, node: ProjectNode) -> str:
    """The file: one variable per line."""
    lines = [f"{name}={value}" for name, value in variables(project, organization, node).items()]
    return "\n".join([f"# {node.role} {node.name} of {organization.name}", *lines, ""])


def channel(node: ProjectNode) -> dict[str, str]:
    """The two pipes between an SL and its training program."""
    return {
        "SL_REQUEST_CHANNEL": f"pipes/{node.name}/request.channel",
        "SL_RESPONSE_CHANNEL": f"pipes/{node.name}/response.channel",
    }


def _license(project: Project, node: ProjectNode) -> dict[str, str]:
    if node.role in ("license", "admin"):
        return {}
    server = project.license_server
    return {
        "SWARM_LICENSE_AUTOPASSJ_SERVER_PRIMARY_IP": str(server.address),
        "SWARM_LICENSE_AUTOPASSJ_SERVER_PRIMARY_PORT": str(server.listens_on),
    }


def _license_server(_project: Project, _organization: ProjectOrganization, node: ProjectNode) -> dict[str, str]:
    return {"SWARM_LICENSE_PORT": str(node.listens_on), "SWARM_LICENSE_DATA_DIR": f"data/{node.name}"}


def _sn(project: Project, _organization: ProjectOrganization, node: ProjectNode) -> dict[str, str]:
    own = {
        "THIS_NODE_IP": str(node.address),
        "SN_API_SERVER_PORT": str(node.listens_on),
        "SN_ETH_PORT_EXT": str(node.p2p),
        "SWARM_DATA_DIR": f"data/{node.name}",
    }
    first = project.sentinel
    if node.name == first.name:
        # Whoever uses these kits has agreed to the project with all its organizations.
        return {**own, "SN_I_AM_SENTINEL": "true", "SN_FOUND_WITH": "trust-file"}
    return {**own, "SENTINEL_NODE_IP": str(first.address), "SENTINEL_API_SERVER_PORT": str(first.listens_on)}


def _sl(project: Project, organization: ProjectOrganization, node: ProjectNode) -> dict[str, str]:
    own = {"THIS_NODE_IP": str(node.address), "SL_FS_PORT": str(node.listens_on), **channel(node)}
    return {**own, **_of_sn(project, organization, node)}


def _swop(project: Project, organization: ProjectOrganization, node: ProjectNode) -> dict[str, str]:
    return {"SWOP_PROFILE": f"{node.name}-profile.yaml", "USR_DIR": "usr", **_of_sn(project, organization, node)}


def _swci(project: Project, organization: ProjectOrganization, node: ProjectNode) -> dict[str, str]:
    return {"SWCI_WEB_PORT": str(node.listens_on), "USR_DIR": "usr", **_of_sn(project, organization, node)}


def _admin(_project: Project, _organization: ProjectOrganization, _node: ProjectNode) -> dict[str, str]:
    return {}


def _of_sn(project: Project, organization: ProjectOrganization, node: ProjectNode) -> dict[str, str]:
    sn = project.sn_of(node, organization)
    return {
        "SN_NODE_IP": str(sn.address),
        "SN_API_SERVER_PORT": str(sn.listens_on),
        "SWARM_DATA_DIR": f"data/{node.name}",
    }


_OF_ROLE = {"license": _license_server, "sn": _sn, "sl": _sl, "swop": _swop, "swci": _swci, "admin": _admin}
