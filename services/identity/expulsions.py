"""Members that the swarm has expelled: their certificates no longer count, whatever their CA says."""

from services.errors import Expelled


class Expulsions:
    """Expelled members by role and name of the certificate, which covers all its slots. Nobody is taken back. Safe in
    any thread.
    """

    def __init__(self) -> None:
        self._members: frozenset[tuple[str, str]] = frozenset()

    def __bool__(self) -> bool:
        return bool(self._members)

    @property
    def members(self) -> list[tuple[str, str]]:
        return sorted(self._members)

    def put(self, *members: tuple[str, str]) -> None:
        self._members |= frozenset(members)

    def holds(self, role: str, name: str) -> bool:
        """``name``: with or without a slot."""
        return (role, name.partition("/")[0]) in self._members

    def check(self, role: str, name: str) -> None:
        """Raises Expelled."""
        if self.holds(role, name):
            raise Expelled(name=name)
