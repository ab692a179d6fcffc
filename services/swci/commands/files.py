"""Commands about files in the usr-dir, which is /platform/swarm/usr."""

import stat
import time
from pathlib import Path
from typing import ClassVar

from services.swci.grammar.command import Command, Group, Say
from services.swci.grammar.kinds import PATH, argument
from services.swci.session import CommandSession
from services.swci.usr_dir import ROOT
from services.swci.wording import clean, size, table
from swarmlearning.swci import models


class FileCommand(Command):
    group = Group.MISCELLANEOUS


class Cd(FileCommand):
    """Change the current directory. Without a word: to the top of the usr-dir."""

    syntax: ClassVar[str] = "CD [path]"

    path: str = argument(PATH, default=str(ROOT))

    async def run(self, session: CommandSession, say: Say) -> models.Message:
        return models.Message(str(session.files.enter(self.path)))

    def show(self, result: models.Message) -> list[str]:
        return [clean(result.text)]


class Pwd(FileCommand):
    """Show the current directory."""

    syntax: ClassVar[str] = "PWD"

    async def run(self, session: CommandSession, say: Say) -> models.Message:
        return models.Message(str(session.files.at))

    def show(self, result: models.Message) -> list[str]:
        return [clean(result.text)]


class Ls(FileCommand):
    """List a directory."""

    syntax: ClassVar[str] = "LS [path]"

    path: str = argument(PATH, default=".")

    async def run(self, session: CommandSession, say: Say) -> models.Files:
        return models.Files([_file(path) for path in session.files.entries(self.path)])

    def show(self, result: models.Files) -> list[str]:
        return [clean(it.name) + ("/" if it.directory else "") for it in result.files]


class LsLong(Ls):
    """List a directory with sizes and times."""

    syntax: ClassVar[str] = "LS -L [path]"

    def show(self, result: models.Files) -> list[str]:
        rows = [
            (it.mode, size(it.size), _day(it.modified_at), it.name + ("/" if it.directory else ""))
            for it in result.files
        ]
        return table(("MODE", "SIZE", "CHANGED", "NAME"), rows)


def _file(path: Path) -> models.File:
    found = path.lstat()
    return models.File(
        name=path.name,
        directory=stat.S_ISDIR(found.st_mode),
        size=found.st_size,
        mode=stat.filemode(found.st_mode),
        modified_at=found.st_mtime,
    )


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(at))
