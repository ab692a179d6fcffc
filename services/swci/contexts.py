"""The contexts of one session: named SNs to work with, of which one is active."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from services.errors import ContextNameTaken, NoContext, TooManyContexts, UnknownContext, UnknownVariable

LIMIT = 100
VARIABLES_LIMIT = 200


@dataclass(frozen=True)
class SnContext:
    """``address``: host:port of the SN's API. ``service``: FQDN:PORT if the SN is reached through a reverse proxy, else
    empty.
    """

    name: str
    host: str
    port: int
    service: str
    address: str
    sn: str = ""
    version: str = ""
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class SnContexts:
    """Contexts by name, in order of creation."""

    _known: dict[str, SnContext] = field(default_factory=dict)
    _active: str = ""

    def __iter__(self) -> Iterator[SnContext]:
        return iter(list(self._known.values()))

    def __len__(self) -> int:
        return len(self._known)

    def copy(self) -> "SnContexts":
        """A copy with separate variables."""
        known = {name: replace(it, environment=dict(it.environment)) for name, it in self._known.items()}
        return SnContexts(known, self._active)

    def check_new(self, name: str) -> None:
        """Raises ContextNameTaken, TooManyContexts."""
        if name in self._known:
            raise ContextNameTaken(context=name, address=self._known[name].address)
        if len(self._known) >= LIMIT:
            raise TooManyContexts(limit=LIMIT, what="contexts")

    def add(self, context: SnContext) -> None:
        """Adds a context; the first one becomes active. Raises as ``check_new``."""
        self.check_new(context.name)
        self._known[context.name] = context
        self._active = self._active or context.name

    def learned(self, context: SnContext) -> None:
        """Updates an existing context with what has been learned about its SN."""
        if context.name in self._known:
            self._known[context.name] = context

    def switch(self, name: str) -> SnContext:
        """Raises UnknownContext."""
        found = self.named(name)
        self._active = name
        return found

    def named(self, name: str | None = None) -> SnContext:
        """The context of this name, or the active one. Raises UnknownContext, NoContext."""
        if name is None:
            if not self._active:
                raise NoContext
            return self._known[self._active]
        if name not in self._known:
            raise UnknownContext(context=name, known=", ".join(self._known) or "none")
        return self._known[name]

    def is_active(self, context: SnContext) -> bool:
        return context.name == self._active

    def variable(self, name: str | None, variable: str) -> tuple[SnContext, str]:
        """Raises UnknownVariable, UnknownContext, NoContext."""
        found = self.named(name)
        if variable not in found.environment:
            known = ", ".join(found.environment) or "none"
            raise UnknownVariable(context=found.name, variable=variable, known=known)
        return found, found.environment[variable]

    def set_variable(self, name: str | None, variable: str, value: str) -> SnContext:
        """Raises UnknownContext, NoContext, TooManyContexts."""
        found = self.named(name)
        if variable not in found.environment and len(found.environment) >= VARIABLES_LIMIT:
            raise TooManyContexts(limit=VARIABLES_LIMIT, what=f"variables in context {found.name}")
        found.environment[variable] = value
        return found
