"""What a confined program does not see of its host: what others have there, and above all keys. No I/O but looking at
which directories there are.
"""

import contextlib
import os
import pwd
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

# Made anew for each program; what the host has there is its own.
PRIVATE = ("/proc", "/dev", "/tmp", "/run", "/sys")  # noqa: S108
HOMES = ("/root", "/home")
# What programs need: nothing below it is hidden but single files.
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc")


@dataclass
class FileSystemView:
    """``hidden``: directories in whose place an empty one is. ``needed``: files and directories that stay where they
    are, to be read, also within a hidden one. ``masked``: files that cannot be read. What lies deeper counts.
    """

    hidden: list[PurePosixPath] = field(default_factory=list)
    needed: list[PurePosixPath] = field(default_factory=list)
    masked: list[PurePosixPath] = field(default_factory=list)

    @classmethod
    def of(cls, secrets: Iterable[Path] = (), needed: Iterable[Path] = ()) -> "FileSystemView":
        """``secrets``: files and directories that no program may see, as it may not see what users have at home."""
        view = cls()
        real = [path.resolve() for path in secrets if path.exists()]
        closed = [path for path in (*homes(), *real) if path.is_dir()]
        kept = {PurePosixPath(path.absolute()) for path in needed if path.exists()}
        wanted = [(PurePosixPath(path), False) for path in closed] + [(path, True) for path in kept]
        for path, is_needed in sorted(set(wanted), key=lambda entry: (len(entry[0].parts), str(entry[0]))):
            if is_needed and not view.shows(path):
                view.needed.append(path)
            elif not is_needed and path not in kept and _may_go(path) and view.shows(path):
                view.hidden.append(path)
        view.masked = [PurePosixPath(path) for path in real if not path.is_dir() and view.shows(PurePosixPath(path))]
        return view

    def shows(self, path: PurePosixPath) -> bool:
        """Whether a program sees there what the host has."""
        covers = [(top, False) for top in self.tops]
        covers += [(top, True) for top in self.needed]
        above = [(len(top.parts), shown) for top, shown in covers if path.is_relative_to(top)]
        return max(above, default=(0, True))[1]

    def is_private(self, path: PurePosixPath) -> bool:
        """Whether it lies in a directory that a program has of its own."""
        return any(path.is_relative_to(top) for top in self.tops)

    @property
    def tops(self) -> list[PurePosixPath]:
        """The directories that a program has of its own."""
        return [*map(PurePosixPath, PRIVATE), *self.hidden]

    def arguments(self) -> list[str]:
        """For bubblewrap, after the host's files."""
        covers = [(top, ["--perms", "0755", "--tmpfs", str(top)]) for top in self.hidden]
        covers += [(top, [*self._parents(top), "--ro-bind", str(top), str(top)]) for top in self.needed]
        covers.sort(key=lambda cover: len(cover[0].parts))
        found = [word for _, words in covers for word in words]
        for path in self.masked:
            found += ["--ro-bind", "/dev/null", str(path)]
        return found

    def _parents(self, path: PurePosixPath) -> list[str]:
        """By itself bubblewrap makes them for its own user only."""
        made = [parent for parent in reversed(path.parents) if self.is_private(parent) and parent not in self.tops]
        return [word for parent in made for word in ("--perms", "0755", "--dir", str(parent))]


def homes() -> list[Path]:
    """Where users of this host have their own files."""
    found = [Path(home) for home in HOMES]
    with contextlib.suppress(RuntimeError):  # a user of a container may have neither a name nor HOME
        found.append(Path.home())
    with contextlib.suppress(KeyError):
        found.append(Path(pwd.getpwuid(os.getuid()).pw_dir))
    return list(dict.fromkeys(path.resolve() for path in found))


def _may_go(path: PurePosixPath) -> bool:
    """A program could do without this directory."""
    if str(path) in HOMES:
        return True
    return len(path.parts) > 2 and not any(path.is_relative_to(system) for system in _SYSTEM)
