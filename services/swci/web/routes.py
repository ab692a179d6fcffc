"""What all routes share: they build a command and run it in the caller's session."""

from typing import Annotated, Protocol, TypeVar

from fastapi import Path
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from services.runtime.addresses import MAX_PORT
from services.swci.grammar.command import Say
from services.swci.grammar.kinds import NAME_LIMIT_CHARACTERS
from services.swci.session import CommandSession

Name = Annotated[str, Path(max_length=NAME_LIMIT_CHARACTERS, pattern=r"^[^\x00-\x1f\x7f]+$")]
Text = Annotated[str, StringConstraints(max_length=64 * 1024, pattern=r"^[^\x00-\x1f\x7f]*$")]
NameInBody = Annotated[
    str, StringConstraints(min_length=1, max_length=NAME_LIMIT_CHARACTERS, pattern=r"^[^\x00-\x1f\x7f]+$")
]


def _whole(value: object) -> object:
    """In JSON, 2.0 is a whole number just like 2."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
Port = Annotated[Whole, Field(ge=1, le=MAX_PORT)]


class Body(BaseModel):
    """A JSON request; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


Result_co = TypeVar("Result_co", covariant=True)


class Runs(Protocol[Result_co]):
    """A command with its type of result."""

    async def run(self, session: CommandSession, say: Say) -> Result_co: ...


async def run(command: Runs[Result_co], session: CommandSession) -> Result_co:
    """Raises SwarmError."""
    result = await command.run(session, _say_nothing)
    session.executed += 1
    return result


def _say_nothing(_line: str) -> None:
    """Drops messages while a command runs: they are for people."""
