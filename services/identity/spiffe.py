"""The name in a certificate: ``spiffe://<trust-domain>/<role>/<name>``."""

import re
from dataclasses import dataclass

ROLES = ("sn", "sl", "swop", "swci", "admin", "license")
SCHEME = "spiffe://"

_TRUST_DOMAIN = re.compile(r"[a-z0-9][a-z0-9._-]{0,254}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SLOT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")

# Only these roles take part in a training, where several nodes on a host may share a certificate.
SLOTTED_ROLES = frozenset({"sl"})


@dataclass(frozen=True)
class SpiffeId:
    """Role and name of a node within a trust domain."""

    trust_domain: str
    role: str
    name: str

    def __post_init__(self) -> None:
        """Raises ValueError with the reason if a part is not allowed in such a URI."""
        if not _TRUST_DOMAIN.fullmatch(self.trust_domain):
            raise ValueError(f"'{self.trust_domain}' is not a trust domain (lower case letters, digits, '.', '-', '_')")
        if self.role not in ROLES:
            raise ValueError(f"'{self.role}' is not a role (one of {', '.join(ROLES)})")
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"'{self.name}' is not a node name (1 to 64 letters, digits, '.', '-', '_')")

    def __str__(self) -> str:
        return f"{SCHEME}{self.trust_domain}/{self.role}/{self.name}"

    @classmethod
    def parse(cls, uri: str) -> "SpiffeId":
        """Raises ValueError with the reason if ``uri`` does not have this form."""
        parts = uri.removeprefix(SCHEME).split("/")
        if not uri.startswith(SCHEME) or len(parts) != 3:
            raise ValueError(f"'{uri}' is not of the form {SCHEME}<trust-domain>/<role>/<name>")
        return cls(trust_domain=parts[0], role=parts[1], name=parts[2])


def name_in_slot(role: str, name: str, slot: str) -> str:
    """The name of a certificate's holder in a slot: ``name/slot``. No certificate itself has such a name.

    Raises ValueError with the reason.
    """
    if role not in SLOTTED_ROLES:
        raise ValueError(f"a certificate of role {role} has no slots; those of role {', '.join(SLOTTED_ROLES)} have")
    if not _SLOT.fullmatch(slot):
        raise ValueError(f"'{slot[:64]}' is not a slot (1 to 32 letters, digits, '.', '-', '_')")
    return f"{name}/{slot}"
