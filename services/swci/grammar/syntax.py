"""A command's syntax: fixed words and places for arguments, against which the words of a line are matched."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from services.swci.grammar.kinds import ParameterKind

_ELEMENT = re.compile(r"<[^>]+>|\[[^\]]+\]|\S+")


@dataclass(frozen=True)
class Literal:
    """A fixed word of the command, in upper or lower case."""

    word: str

    def fits(self, text: str) -> bool:
        return text.upper() == self.word.upper()

    def __str__(self) -> str:
        return self.word


@dataclass(frozen=True)
class Slot:
    """A place for the argument of this name. ``shown``: its text in the syntax, such as ``ON|OFF``."""

    name: str
    required: bool
    whole_rest: bool = False
    shown: str = ""

    def fits(self, _text: str) -> bool:
        return True

    def __str__(self) -> str:
        return f"<{self.shown}>" if self.required else f"[{self.shown}]"


Element = Literal | Slot


@dataclass(frozen=True)
class Form:
    """One way of writing a command: with some of its optional arguments."""

    elements: tuple[Element, ...]

    def matched(self, words: Sequence[str]) -> int:
        """How many words fit, counted from the first."""
        for number, word in enumerate(words):
            if number >= len(self.elements):
                return number
            element = self.elements[number]
            if isinstance(element, Slot) and element.whole_rest:
                return len(words)
            if not element.fits(word):
                return number
        return len(words)

    def fitting(self, words: Sequence[str]) -> tuple[int, int]:
        """How many words fit, and how many of these are fixed words."""
        fits = self.matched(words)
        return fits, sum(isinstance(element, Literal) for element in self.elements[:fits])

    def arguments(self, words: Sequence[str]) -> dict[str, int] | None:
        """Argument name -> index of its word, if the words have this form; else None."""
        rest = bool(self.elements) and isinstance(self.elements[-1], Slot) and self.elements[-1].whole_rest
        enough = len(words) >= len(self.elements) if rest else len(words) == len(self.elements)
        if not enough or self.matched(words) < len(words):
            return None
        return {element.name: at for at, element in enumerate(self.elements) if isinstance(element, Slot)}

    @property
    def literals(self) -> int:
        return sum(isinstance(element, Literal) for element in self.elements)

    def next_after(self, words: Sequence[str]) -> Element | None:
        """The element after these words; None if the words do not fit or nothing follows."""
        if self.matched(words) < len(words) or len(words) >= len(self.elements):
            return None
        return self.elements[len(words)]


@dataclass(frozen=True)
class Syntax:
    """Read from text such as ``WAIT FOR IP <ip> [port] [retries]``. An argument may show its allowed words instead of
    its name.
    """

    elements: tuple[Element, ...]

    @classmethod
    def read(cls, text: str, kinds: Mapping[str, ParameterKind]) -> "Syntax":
        return cls(tuple(_element(part, kinds) for part in _ELEMENT.findall(text)))

    def __str__(self) -> str:
        return " ".join(str(element) for element in self.elements)

    @cached_property
    def head(self) -> tuple[str, ...]:
        """The fixed words at the beginning, by which a command is known."""
        found: list[str] = []
        for element in self.elements:
            if not isinstance(element, Literal):
                break
            found.append(element.word)
        return tuple(found)

    @cached_property
    def forms(self) -> tuple[Form, ...]:
        """The forms with no optional argument, with the first, with the first two, ..."""
        optional = [at for at, element in enumerate(self.elements) if _is_optional(element)]
        return tuple(self._form(optional[:count]) for count in range(len(optional) + 1))

    def _form(self, present: Sequence[int]) -> Form:
        kept = (element for at, element in enumerate(self.elements) if not _is_optional(element) or at in present)
        return Form(tuple(kept))


def _element(part: str, kinds: Mapping[str, ParameterKind]) -> Element:
    if part[0] not in "<[":
        return Literal(part)
    shown = part[1:-1]
    name = shown if shown in kinds else next(it for it in kinds if "|".join(kinds[it].choices) == shown)
    return Slot(name, required=part[0] == "<", whole_rest=kinds[name].whole_rest, shown=shown)


def _is_optional(element: Element) -> bool:
    return isinstance(element, Slot) and not element.required
