"""The options of a script: its own, those of the engine's `container create`, and those of sidecars."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.errors import OptionUnusable
from services.scripts.engine import ContainerCommand, options_of

VALUE, FLAG, LIST = "value", "flag", "list"

_YES, _NO = ("true", "1", "yes"), ("false", "0", "no")


@dataclass(frozen=True)
class Option:
    """``kind``: VALUE, FLAG, or LIST if it may be repeated. ``text``: its help."""

    kind: str
    text: str


@dataclass
class Sidecar:
    """A container beside the node, as described by ``--NAME-...``."""

    name: str
    own: dict[str, str] = field(default_factory=dict)
    passed: list[tuple[str, str | None]] = field(default_factory=list)


@dataclass
class Given:
    """What was typed. ``passed``: options of the engine, in order, with their values (None: a flag)."""

    script: str
    own: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    flags: dict[str, bool] = field(default_factory=dict)
    passed: list[tuple[str, str | None]] = field(default_factory=list)
    sidecars: dict[str, Sidecar] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)

    def get(self, name: str, default: str = "") -> str:
        """The value of a script's own option."""
        return self.own.get(name, default)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """The value of a script's own flag."""
        return self.flags.get(name, default)

    def values(self, name: str) -> list[str]:
        """All values of one of the engine's options."""
        return [value for option, value in self.passed if option == name and value is not None]

    def unusable(self, option: str, problem: str) -> OptionUnusable:
        """The error for an option."""
        return OptionUnusable(option=option, problem=problem, script=self.script)

    def port(self, name: str, default: int | None = None) -> int | None:
        """The value of a script's own option for a port. Raises OptionUnusable."""
        text = self.own.get(name)
        if text is None:
            return default
        if not text.isdecimal() or not 1 <= int(text) <= 65535:
            raise self.unusable(f"--{name}", f"'{text}' is not a port from 1 to 65535")
        return int(text)


# Options of sidecars that are not the engine's.
SIDECAR_OWN = ("image", "cmd", "name")
SIDECAR_FLAGS = ("pid-main", "volumes-from-main")


class Parser:
    """Reads one command line. The case of long options does not matter."""

    def __init__(
        self, script: str, own: Mapping[str, Option], engine: ContainerCommand | None, sidecars: Sequence[str] = ()
    ) -> None:
        """Without an engine, options of containers are unknown."""
        self._own = own
        self._takes_value, self._letters = ({}, {}) if engine is None else options_of(engine)
        self._given = Given(script)
        self._sidecars = list(sidecars)
        self._words: list[str] = []

    def parse(self, words: Sequence[str]) -> Given:
        """Raises OptionUnusable for a word that is not an option, and for an option without its value."""
        self._words = list(words)
        lowered = [word.lower() for word in words]
        for position, word in enumerate(lowered):  # a sidecar may be declared after its options
            if word == "--":
                break
            if word == "--sidecar" and position + 1 < len(words):
                self._sidecars.append(lowered[position + 1])
            elif word.startswith("--sidecar="):
                self._sidecars.append(word.partition("=")[2])
        while self._words:
            word = self._words.pop(0)
            if word == "--":
                self._given.command = self._words
                break
            if word.startswith("--"):
                self._long(word)
            elif word.startswith("-") and len(word) > 1:
                self._short(word[1:])
            else:
                raise self._given.unusable(word, "it is no option; words for the container's program come after '--'")
        return self._given

    def _long(self, word: str) -> None:
        name, equals, text = word[2:].partition("=")
        name = name.lower()
        value = text if equals else None
        if name in self._own:
            self._take_own(name, self._own[name].kind, value)
        elif name in self._takes_value:
            self._given.passed.append((name, self._value_of(name, self._takes_value[name], value)))
        elif (sidecar := next((s for s in self._sidecars if name.startswith(f"{s}-")), None)) is not None:
            self._take_sidecar(sidecar, name[len(sidecar) + 1 :], value)
        else:
            known = [*self._own, *self._takes_value]
            near = difflib.get_close_matches(name, known, n=1)
            raise self._given.unusable(
                f"--{name}", f"it is not known{f'; perhaps --{near[0]} is meant' if near else ''}"
            )

    def _take_own(self, name: str, kind: str, value: str | None) -> None:
        if kind == FLAG:
            self._given.flags[name] = value is None or self._truth(f"--{name}", value)
        elif kind == LIST:
            self._given.lists.setdefault(name, []).append(self._needed(f"--{name}", value))
        else:
            self._given.own[name] = self._needed(f"--{name}", value)

    def _take_sidecar(self, sidecar: str, option: str, value: str | None) -> None:
        found = self._given.sidecars.setdefault(sidecar, Sidecar(sidecar))
        shown = f"--{sidecar}-{option}"
        option = self._letters.get(option, option)
        if option in SIDECAR_OWN:
            found.own[option] = self._needed(shown, value)
        elif option in SIDECAR_FLAGS:
            found.own[option] = "true" if value is None or self._truth(shown, value) else ""
        elif option in self._takes_value:
            found.passed.append((option, self._value_of(shown[2:], self._takes_value[option], value)))
        else:
            near = difflib.get_close_matches(option, [*SIDECAR_OWN, *SIDECAR_FLAGS, *self._takes_value], n=1)
            hint = f"; perhaps --{sidecar}-{near[0]} is meant" if near else ""
            raise self._given.unusable(shown, f"'{option}' is no option of a container{hint}")

    def _short(self, letters: str) -> None:
        while letters:
            letter, letters = letters[0], letters[1:]
            name = self._letters.get(letter, "detach" if letter == "d" else "")
            if not name or (name not in self._own and name not in self._takes_value):
                raise self._given.unusable(f"-{letter}", "it is not known")
            if name in self._own and self._own[name].kind == FLAG:
                self._given.flags[name] = True
            elif not self._takes_value.get(name, False):
                self._given.passed.append((name, None))
            else:
                value = self._needed(f"-{letter}", letters.removeprefix("=") if letters else None)
                self._given.passed.append((name, value))
                return

    def _value_of(self, name: str, takes_value: bool, value: str | None) -> str | None:
        return self._needed(f"--{name}", value) if takes_value else value

    def _needed(self, option: str, value: str | None) -> str:
        if value is None:
            if not self._words:
                raise self._given.unusable(option, "it needs a value")
            value = self._words.pop(0)
        if not value and option not in ("--entrypoint", "--ml-entrypoint"):
            raise self._given.unusable(option, "its value is empty")
        return value

    def _truth(self, option: str, value: str) -> bool:
        if value.lower() not in (*_YES, *_NO):
            raise self._given.unusable(option, f"'{value}' is neither true nor false")
        return value.lower() in _YES
