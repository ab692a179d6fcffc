"""Which account on the chain belongs to which SN, according to the directory's events."""

from dataclasses import dataclass, field


@dataclass
class AccountNames:
    """``names`` and ``organizations`` by account, in the order in which the accounts were entered."""

    names: dict[str, str] = field(default_factory=dict)
    organizations: dict[str, str] = field(default_factory=dict)
    _ever: dict[str, str] = field(default_factory=dict)

    def added(self, account: str, name: str, organization: str = "") -> None:
        self.names[account] = name
        self.organizations[account] = organization
        self._ever[account] = name

    def removed(self, account: str) -> None:
        self.names.pop(account, None)
        self.organizations.pop(account, None)

    def owner(self, account: str) -> str | None:
        """The name of the SN whose account this is."""
        return self.names.get(account)

    def belongs_to(self, account: str) -> str | None:
        """Like ``owner``, but also for an account that may not write any more: it may still seal for a while."""
        return self._ever.get(account)

    def of(self, name: str) -> list[str]:
        """The accounts of an SN: one, except for a moment after the SN has lost its data."""
        return [account for account, owner in self.names.items() if owner == name]
