"""Which organizations a new swarm begins with."""

from typing import Literal

from services.chain.network import ONE_ORGANIZATION, Founding
from services.identity.certificates import key_fingerprint
from services.identity.identity import Identity
from services.identity.organizations import Organization

FoundWith = Literal["own", "trust-file"]


def founding(identity: Identity, found_with: FoundWith) -> tuple[Founding, ...]:
    """The sentinel's own organization first. Without a trust file, a single organization without a name."""
    trusted = identity.credentials.trust.organizations
    if trusted is None:
        return ONE_ORGANIZATION
    own = [one for one in trusted.members if one.name == identity.organization]
    others = [one for one in trusted.members if one.name != identity.organization]
    return tuple(_founding(one) for one in (own if found_with == "own" else [*own, *others]))


def _founding(organization: Organization) -> Founding:
    cas = dict.fromkeys(bytes.fromhex(key_fingerprint(ca)) for ca in organization.cas)
    sns = (name for name in organization.issues.get("sn", ()) if "*" not in name)
    return Founding(organization.name, tuple(cas), tuple(sns))
