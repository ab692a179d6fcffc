"""The base of all commands: a dataclass of the arguments, with syntax, help and action."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, dataclass_transform

from services.errors import CommandError
from services.swci.grammar.kinds import ParameterKind, argument, check_arguments, kind_of
from services.swci.grammar.syntax import Syntax

if TYPE_CHECKING:
    from services.swci.session import CommandSession

Say = Callable[[str], None]
"""Shows one line while a command still runs."""


class Group(StrEnum):
    """The groups in which HELP lists commands."""

    CONTEXT = "Context"
    CONTRACT = "Contract"
    ORGANIZATION = "Organization"
    TASK = "Task"
    TASKRUNNER = "Taskrunner"
    MISCELLANEOUS = "Miscellaneous"


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(argument,))
@dataclass(frozen=True, kw_only=True)
class Command(ABC):
    """A subclass has ``syntax``, ``group`` and a docstring, which is its help; ``argument`` makes its fields.

    Subclasses become frozen dataclasses automatically. Building one in any way raises CommandError for an invalid
    argument.
    """

    syntax: ClassVar[str]
    group: ClassVar[Group]

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, kw_only=True)(cls)

    def __post_init__(self) -> None:
        try:
            check_arguments(self)
        except ValueError as error:
            raise CommandError(problem=str(error), usage=self.syntax) from None

    @abstractmethod
    async def run(self, session: "CommandSession", say: Say) -> Any:
        """Runs the command; returns a dataclass of swarmlearning.swci.models. Raises SwarmError."""

    @abstractmethod
    def show(self, result: Any) -> list[str]:
        """The result as lines for people."""

    @classmethod
    def summary(cls) -> str:
        """The first sentence of the help."""
        first = " ".join(cls.help().split("\n\n", 1)[0].split())
        return first.split(". ", 1)[0].rstrip(".") + "."

    @classmethod
    def help(cls) -> str:
        return inspect.cleandoc(cls.__doc__ or "")


@cache
def syntax_of(command: type[Command]) -> Syntax:
    return Syntax.read(command.syntax, kinds_of(command))


@cache
def kinds_of(command: type[Command]) -> dict[str, ParameterKind]:
    """The kinds of the command's arguments, by name."""
    return {field.name: kind_of(field) for field in fields(command)}
