"""Which account on the chain belongs to which SN, as the directory's events tell it."""

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
        """As ``owner``, also of one that may not write any more: it may seal for a while yet."""
        return self._ever.get(account)

    def of(self, name: str) -> list[str]:
        """The accounts of an SN: one, but for a moment after it lost its data."""
        return [account for account, owner in self.names.items() if owner == name]
