"""Who acts on a license server, and what each may do. What is not listed is denied."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from services.errors import NotPermitted

Role = Literal["admin", "operator", "viewer"]
ROLES: tuple[Role, ...] = ("admin", "operator", "viewer")

_VIEWER = ("licenses:read", "pools:read", "leases:read", "usage:read")
_OPERATOR = (*_VIEWER, "licenses:write", "pools:write", "leases:write", "settings:read", "audit:read")
_ADMIN = (*_OPERATOR, "settings:write", "users:read", "users:write", "tokens:write", "backup:read", "backup:write")

SCOPES_OF_ROLE: dict[Role, frozenset[str]] = {
    "viewer": frozenset(_VIEWER),
    "operator": frozenset(_OPERATOR),
    "admin": frozenset(_ADMIN),
}
SCOPES = _ADMIN


@dataclass(frozen=True)
class Actor:
    """Passed to every call that changes something, for the audit log. ``kind``: how the actor was identified."""

    kind: Literal["user", "token", "certificate", "system"]
    name: str
    scopes: frozenset[str]
    address: str = ""
    user_id: int | None = None

    @classmethod
    def user(cls, user_id: int, name: str, role: Role, address: str) -> "Actor":
        return cls("user", name, SCOPES_OF_ROLE[role], address, user_id)

    def require(self, scope: str) -> None:
        """Raises NotPermitted."""
        if scope not in self.scopes:
            raise NotPermitted(name=self.name or "nobody", scope=scope)

    def may(self, scopes: Iterable[str]) -> bool:
        return self.scopes.issuperset(scopes)


SYSTEM = Actor("system", "license server", frozenset(SCOPES))
