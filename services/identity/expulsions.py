"""Members that the swarm has expelled: their certificates no longer count, whatever their CA says."""

from collections.abc import Iterable

from services.errors import Expelled
from services.runtime.signals import ChangeSignal


class Expulsions:
    """Expelled members by role and name of the certificate, which covers all its slots. A swarm takes nobody back. May
    be asked in any thread.

    ``changed``: notified by ``put`` of each new one.
    """

    def __init__(self) -> None:
        self._members: frozenset[tuple[str, str, str]] = frozenset()  # with the organization, or '' for any
        self.changed = ChangeSignal()

    def __bool__(self) -> bool:
        return bool(self._members)

    @property
    def members(self) -> list[tuple[str, str]]:
        return sorted({(role, name) for _, role, name in self._members})

    def put(self, *members: tuple[str, str], organization: str = "") -> None:
        """``organization``: expels those of this one only; '' means of any."""
        before = self._members
        self._members = before | {(organization, role, name) for role, name in members}
        if self._members != before:
            self.changed.notify()

    def replace(self, members: Iterable[tuple[str, str, str]]) -> None:
        """These and no others, each with its organization, or '' for any."""
        self._members = frozenset(members)

    def holds(self, role: str, name: str, organization: str = "") -> bool:
        """``name``: with or without a slot. ``organization``: of the member; if '', it is not known."""
        name = name.partition("/")[0]
        return ("", role, name) in self._members or (organization, role, name) in self._members

    def check(self, role: str, name: str, organization: str = "") -> None:
        """Raises Expelled."""
        if self.holds(role, name, organization):
            raise Expelled(name=name)
