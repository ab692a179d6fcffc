"""The base of every failure that a user can meet: its sentence is made of a template and facts."""

from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

__all__ = ["Fact", "SwarmError", "by_code"]

T = TypeVar("T", int, float, str)


class SwarmError(Exception):
    """Base of all. ``code`` is stable and unique; ``exit_code`` is what a process ends with.

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
        said = self.message.format_map(facts).removesuffix(".")  # the last fact may be a sentence of its own
        joint = "\n" if "\n" in said else ". "  # it ends with lines of a program's log
        return f"{said}{joint}{self.remedy.format_map(facts)}"


class Fact(Generic[T]):
    """A fact that code reads, as an attribute. 0 or empty where it is missing or of another type, for peers send it."""

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
    """Facts for a message; one that is missing shows as '?', an error never hides another."""

    def __missing__(self, key: str) -> str:
        return "?"


def by_code(code: str) -> type[SwarmError]:
    """The class with this code; SwarmError itself where there is none."""
    return _registry().get(code, SwarmError)


def _registry() -> dict[str, type[SwarmError]]:
    found: dict[str, type[SwarmError]] = {}
    pending = [SwarmError]
    while pending:
        cls = pending.pop()
        found[cls.code] = cls
        pending.extend(cls.__subclasses__())
    return found
