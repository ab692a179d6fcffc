"""Runs one line in one session and always returns an answer."""

import dataclasses
import traceback
from dataclasses import dataclass
from typing import Any

from services.errors import SwarmError
from services.runtime import escaping, logs
from services.swci.catalog import GRAMMAR
from services.swci.grammar.command import Command, Say
from services.swci.grammar.grammar import Grammar
from services.swci.grammar.words import split, without_comment
from services.swci.session import CommandSession
from services.swci.wording import clean

ERROR = "ERROR : "
AS_JSON = "--json"

_log = logs.get("swci")


@dataclass(frozen=True)
class CommandResult:
    """``lines``: for people, without those shown while the command ran. ``result``: a dataclass of
    swarmlearning.swci.models, None if the command failed. ``wants_json``: the line ended with --json.
    """

    command: str
    lines: tuple[str, ...]
    result: Any = None
    error: SwarmError | None = None
    wants_json: bool = False

    @property
    def failed(self) -> bool:
        return self.error is not None

    def as_data(self) -> dict[str, Any]:
        """``{"command", "ok", "result" | "error": {"code", "message", "facts"}}``"""
        head = {"command": self.command, "ok": not self.failed}
        if self.error is not None:
            return {**head, "error": error_data(self.error)}
        return {**head, "result": dataclasses.asdict(self.result)}

    def as_json(self) -> str:
        return escaping.as_json(self.as_data())


async def execute(session: CommandSession, line: str, say: Say, grammar: Grammar = GRAMMAR) -> CommandResult | None:
    """Runs the command of a line and counts it; None for a line without one. Never raises a SwarmError."""
    line, wants_json = _without_flag(line)
    text = line.strip()
    try:
        command = grammar.parse(line)
    except SwarmError as error:
        answer = failure(text, error)
    else:
        if command is None:
            return None
        answer = await perform(session, command, text, say)
    return dataclasses.replace(answer, wants_json=wants_json)


async def perform(session: CommandSession, command: Command, text: str, say: Say) -> CommandResult:
    """Runs a command that has already been built."""
    try:
        result = await command.run(session, say)
    except SwarmError as error:
        return failure(text, error)
    except Exception as bug:
        _log.error("a command failed unexpectedly", command=text, trace=traceback.format_exc())
        return failure(text, SwarmError(detail=f"{type(bug).__name__} in {text}"))
    session.executed += 1
    return CommandResult(text, tuple(clean(line) for line in command.show(result)), result)


def _without_flag(line: str) -> tuple[str, bool]:
    """The line without --json at its end, and whether it was there. Lines for a task's body are left as they are."""
    words = without_comment(split(line))
    if len(words) < 2 or words[-1].text.lower() != AS_JSON or words[0].text.upper() == "APPEND":
        return line, False
    return line[: words[-1].start], True


def failure(text: str, error: SwarmError) -> CommandResult:
    first, *more = [clean(line) for line in str(error).splitlines()] or [""]
    return CommandResult(text, (ERROR + first, *more), error=error)


def error_data(error: SwarmError) -> dict[str, Any]:
    facts = {
        name: value if isinstance(value, int | float | bool) else str(value) for name, value in error.facts.items()
    }
    return {"code": error.code, "message": str(error), "facts": facts}
