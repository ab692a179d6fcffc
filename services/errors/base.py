"""The base of every error that a user may see: its message is made from a template and facts."""

from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

__all__ = ["Fact", "SwarmError", "by_code"]

T = TypeVar("T", int, float, str)


class SwarmError(Exception):
    """Base of all errors. ``code`` is stable and unique; ``exit_code`` is that of a process that the error ends.

    ``message`` and ``remedy`` are format strings over the facts.
    """

    code: ClassVar[str] = "internal"
    grpc_status: ClassVar[str] = "INTERNAL"
    exit_code: ClassVar[int] = 1
    message: ClassVar[str] = "Unexpected error: {detail}"
    remedy: ClassVar[str] = "Please report this with the log of the node."

    def __init__(self, **facts: Any) -> None:
        super().__init__(facts)
        self.facts: Mapping[str, Any] = facts

    def __str__(self) -> str:
        facts = _Facts(self.facts)
        said = self.message.format_map(facts).removesuffix(".")  # the last fact may be a whole sentence
        joint = "\n" if "\n" in said else ". "  # several lines: they end with a program's log
        return f"{said}{joint}{self.remedy.format_map(facts)}"


class Fact(Generic[T]):
    """A fact as an attribute, for code that reads it. Peers send facts: 0 or empty if missing or of another type."""

    def __init__(self, kind: type[T], name: str) -> None:
        self._kind: type[T] = kind
        self._name = name

    def __get__(self, error: SwarmError, owner: type[SwarmError]) -> T:
        value = error.facts.get(self._name)
        if self._kind is float and isinstance(value, int):
            value = float(value)
        found: T = value if isinstance(value, self._kind) else self._kind()
        return found


class _Facts(dict[str, Any]):
    """Facts for a message. A missing one shows as '?', so that formatting an error never fails."""

    def __missing__(self, key: str) -> str:
        return "?"


def by_code(code: str) -> type[SwarmError]:
    """The class with this code; SwarmError itself if there is none."""
    return _registry().get(code, SwarmError)


def _registry() -> dict[str, type[SwarmError]]:
    found: dict[str, type[SwarmError]] = {}
    pending = [SwarmError]
    while pending:
        cls = pending.pop()
        found[cls.code] = cls
        pending.extend(cls.__subclasses__())
    return found
