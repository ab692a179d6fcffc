"""HELP: what there is, and how one command is written."""

from typing import ClassVar

from services.swci.grammar.command import Command, Group, Say
from services.swci.grammar.kinds import LINE, argument
from services.swci.session import Session
from services.swci.wording import table
from swarmlearning.swci import models


class Help(Command):
    """List all commands, or show how the commands that begin with these words are written."""

    syntax: ClassVar[str] = "HELP [command]"
    group = Group.MISCELLANEOUS

    command: str = argument(LINE, default="")

    async def run(self, session: Session, say: Say) -> models.Help:
        from services.swci.catalog import GRAMMAR  # noqa: PLC0415  # which holds this command too

        found = GRAMMAR.helped(self.command)
        return models.Help([models.CommandHelp(it.syntax, it.group, it.summary(), it.help()) for it in found])

    def show(self, result: models.Help) -> list[str]:
        if self.command.strip():
            return [line for it in result.commands for line in _one(it)][:-1]
        lines: list[str] = []
        for group in Group:
            commands = [it for it in result.commands if it.group == group]
            lines += [f"{group} commands:", *(f"  {line}" for line in _overview(commands)), ""]
        return [*lines, "HELP <command> says more. A line that begins with # is a comment. --json at the end: as JSON."]


def _overview(commands: list[models.CommandHelp]) -> list[str]:
    return table(("", ""), [(it.syntax, it.summary) for it in commands])[1:]


def _one(command: models.CommandHelp) -> list[str]:
    return [command.syntax, *(f"  {line}".rstrip() for line in command.text.splitlines()), ""]
