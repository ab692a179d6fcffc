"""Turns a line into a command, or into an error that says why it is none."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from services.errors import CommandError, UnknownCommand
from services.swci.grammar.command import Command, kinds_of, syntax_of
from services.swci.grammar.kinds import shown
from services.swci.grammar.syntax import Form, Literal, Slot
from services.swci.grammar.words import Word, rest_of, split, without_comment

LIKE_ENOUGH = 0.7  # how similar a command must be to be suggested
RIGHT_BEGINNING = 0.2


@dataclass(frozen=True)
class Grammar:
    """All commands of the language."""

    commands: tuple[type[Command], ...]

    def parse(self, line: str) -> Command | None:
        """The command of a line; None for a line without one. Raises CommandError, UnknownCommand."""
        words = split(line)
        told = without_comment(words)
        if not told:
            return None
        fitting = list(self._fitting(words, told))
        if not fitting:
            raise self._refusal([word.text for word in told])
        command, form, used = max(fitting, key=lambda found: found[1].literals)
        return _built(command, form, used, line)

    def goes_on(self, words: Sequence[str]) -> Iterator[tuple[type[Command], Literal | Slot]]:
        """What may follow these words, and in which command."""
        for command in self.commands:
            for form in syntax_of(command).forms:
                following = form.next_after(words)
                if following is not None:
                    yield command, following

    def helped(self, text: str) -> list[type[Command]]:
        """The commands that begin with these words. Raises UnknownCommand."""
        words = [word.text for word in split(text)]
        found = [command for command in self.commands if _starts(syntax_of(command).head, words)]
        if not found:
            raise self._unknown(words)
        return found

    def _fitting(
        self, words: Sequence[Word], told: Sequence[Word]
    ) -> Iterator[tuple[type[Command], Form, Sequence[Word]]]:
        for command in self.commands:
            for form in syntax_of(command).forms:
                # An argument that takes the rest of the line includes any #, so no comment can follow.
                used = words if _takes_rest(form) else told
                if form.arguments([word.text for word in used]) is not None:
                    yield command, form, used

    def _refusal(self, words: Sequence[str]) -> CommandError:
        forms = [(command, form) for command in self.commands for form in syntax_of(command).forms]
        furthest = max(form.fitting(words) for _, form in forms)
        near = [
            (command, form)
            for command, form in forms
            if form.fitting(words) == furthest and len(syntax_of(command).head) <= furthest[0]
        ]
        if not near:
            return self._unknown(words)
        at = furthest[0]
        head = " ".join(syntax_of(near[0][0]).head)
        usage = " or: ".join(dict.fromkeys(command.syntax for command, _ in near))
        if at == len(words):
            lacking = _either([_next_required(command, at) for command in dict.fromkeys(it for it, _ in near)])
            return CommandError(problem=f"{head} lacks {lacking}", usage=usage)
        expected = _either([str(form.elements[at]) for _, form in near if at < len(form.elements)])
        if not expected:
            return CommandError(problem=f"{head} takes no more words: {shown(words[at])} is too many", usage=usage)
        problem = f"{shown(words[at])} cannot stand after {words[at - 1]}: {expected} is expected"
        return CommandError(problem=problem, usage=usage)

    def _unknown(self, words: Sequence[str]) -> CommandError:
        """The error for an unknown command, with the commands that may have been meant."""
        heads = list(dict.fromkeys(self._heads()))
        text = " ".join(words).upper()
        begun = _either([" ".join(head) for head in heads if _starts(head, words)])
        if begun:
            return CommandError(problem=f"{shown(text)} is only the beginning of a command", usage=begun)
        score, nearest = max((_likeness(" ".join(head), words), " ".join(head)) for head in heads)
        return UnknownCommand(command=shown(text), hint=f"Did you mean {nearest}? " if score >= LIKE_ENOUGH else "")

    def _heads(self) -> list[tuple[str, ...]]:
        return [syntax_of(command).head for command in self.commands]


def _built(command: type[Command], form: Form, words: Sequence[Word], line: str) -> Command:
    """Raises CommandError for a word that is invalid for its argument."""
    places = form.arguments([word.text for word in words]) or {}
    kinds, values = kinds_of(command), dict[str, Any]()
    for name, at in places.items():
        word, kind = words[at], kinds[name]
        if word.open and not kind.whole_rest:
            raise CommandError(problem=f"the quote before {shown(word.text)} is not closed", usage=command.syntax)
        try:
            values[name] = kind.read(rest_of(line, words[at - 1]) if kind.whole_rest else word.text)
        except ValueError as error:
            raise CommandError(problem=str(error), usage=command.syntax) from None
    return command(**values)


def _takes_rest(form: Form) -> bool:
    last = form.elements[-1]
    return isinstance(last, Slot) and last.whole_rest


def _next_required(command: type[Command], at: int) -> str:
    """What is expected at this place if no optional argument is given."""
    return str(syntax_of(command).forms[0].elements[at])


def _starts(whole: Sequence[str], beginning: Sequence[str]) -> bool:
    return [word.upper() for word in whole[: len(beginning)]] == [word.upper() for word in beginning]


def _either(expected: Sequence[str]) -> str:
    several = list(dict.fromkeys(expected))
    return " or ".join([", ".join(several[:-1]), several[-1]]) if len(several) > 1 else "".join(several)


def _likeness(head: str, words: Sequence[str]) -> float:
    """The similarity of a command's first words to those of a line, 0 to 1, plus RIGHT_BEGINNING if the first word is
    right.

    0 if they are the same: then something else in the line is wrong.
    """
    given = " ".join(words[: head.count(" ") + 1]).upper()
    if given == head:
        return 0.0
    right = given.split(" ", 1)[0] == head.split(" ", 1)[0]
    return difflib.SequenceMatcher(None, head, given).ratio() + RIGHT_BEGINNING * right
