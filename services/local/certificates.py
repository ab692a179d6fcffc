"""The certificates of a local swarm: a development CA and one certificate per node, kept from run to run."""

from pathlib import Path

from services.errors import IdentityError
from services.identity.authority import CA_CERT, Authority, IssuedFiles
from services.identity.certificates import curve_key_in
from services.identity.identity import Identity
from services.local.plan import HOSTS, SwarmPlan

ORGANIZATION = "local swarm"


def certificates(plan: SwarmPlan) -> dict[str, IssuedFiles]:
    """Files by node name. Valid existing ones are used again, as the chain knows nodes by their keys."""
    ca = plan.directory / "ca"
    authority = Authority.open(ca) if (ca / CA_CERT).exists() else Authority.create(ca, ORGANIZATION)
    directory = plan.directory / "certs"
    return {name: _certificate(authority, role, name, directory) for role, name in plan.identities}


def admin_identity(directory: Path, name: str) -> Identity:
    """The administrator of the swarm in this directory. Raises IdentityError if there is none."""
    files = _paths(directory / "certs", directory / "ca" / CA_CERT, "admin", name)
    return Identity.load(cert=files.cert, key=files.key, cacert=files.cacert)


def _certificate(authority: Authority, role: str, name: str, directory: Path) -> IssuedFiles:
    files = _paths(directory, authority.cacert, role, name)
    if files.cert.exists() and files.key.exists():
        try:
            Identity.load(cert=files.cert, key=files.key, cacert=files.cacert, expected_role=role)
            return files
        except IdentityError:
            pass  # expired or damaged: a new one takes its place
    return authority.issue(role, name, HOSTS, directory, force=True, key=curve_key_in(files.key))


def _paths(directory: Path, cacert: Path, role: str, name: str) -> IssuedFiles:
    return IssuedFiles(directory / f"{role}-{name}-cert.pem", directory / f"{role}-{name}-key.pem", cacert)
