"""Which account on the chain belongs to which SN, as the directory's events tell it."""

from dataclasses import dataclass, field


@dataclass
class AccountNames:
    """Names by account, in the order in which the accounts were entered.

    The account that made the directory is entered without a name: it is that of the SN that registered first.
    """

    names: dict[str, str] = field(default_factory=dict)
    founder: str = ""

    def added(self, account: str, name: str) -> None:
        self.names[account] = name

    def removed(self, account: str) -> None:
        self.names.pop(account, None)

    def registered(self, name: str) -> None:
        """An SN has registered as a member."""
        self.founder = self.founder or name

    def owner(self, account: str) -> str | None:
        """The name of the SN whose account this is."""
        name = self.names.get(account)
        return self.founder or None if name == "" else name

    def of(self, name: str) -> list[str]:
        """The accounts of an SN: one, but for a moment after it lost its data."""
        return [account for account in self.names if self.owner(account) == name]

    @property
    def in_order(self) -> list[tuple[str, str]]:
        """(account, name) of every SN, in the order of joining, which all SNs see alike."""
        return [(account, owner) for account in self.names if (owner := self.owner(account)) is not None]
