"""What a confined program cannot see of its host: other users' files and above all keys. No I/O, except to look which
files and directories exist.
"""

import contextlib
import os
import pwd
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

# Each program gets new ones; it does not see what the host has there.
PRIVATE = ("/proc", "/dev", "/tmp", "/run", "/sys")  # noqa: S108
HOMES = ("/root", "/home")
# Needed by programs: below these, only single files are hidden.
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc")


@dataclass
class FileSystemView:
    """``hidden``: directories replaced by empty ones. ``needed``: files and directories that stay readable where they
    are, even within a hidden one. ``masked``: files that cannot be read. The deepest matching path decides.
    """

    hidden: list[PurePosixPath] = field(default_factory=list)
    needed: list[PurePosixPath] = field(default_factory=list)
    masked: list[PurePosixPath] = field(default_factory=list)

    @classmethod
    def of(cls, secrets: Iterable[Path] = (), needed: Iterable[Path] = ()) -> "FileSystemView":
        """``secrets``: files and directories that no program may see; users' home directories are hidden anyway."""
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
        """Whether a program sees at this path what the host has."""
        covers = [(top, False) for top in self.tops]
        covers += [(top, True) for top in self.needed]
        above = [(len(top.parts), shown) for top, shown in covers if path.is_relative_to(top)]
        return max(above, default=(0, True))[1]

    def is_private(self, path: PurePosixPath) -> bool:
        """Whether the path is in a directory of the program's own."""
        return any(path.is_relative_to(top) for top in self.tops)

    @property
    def tops(self) -> list[PurePosixPath]:
        """The directories that each program has to itself."""
        return [*map(PurePosixPath, PRIVATE), *self.hidden]

    def arguments(self) -> list[str]:
        """Arguments for bubblewrap, to follow those for the host's files."""
        covers = [(top, ["--perms", "0755", "--tmpfs", str(top)]) for top in self.hidden]
        covers += [(top, [*self._parents(top), "--ro-bind", str(top), str(top)]) for top in self.needed]
        covers.sort(key=lambda cover: len(cover[0].parts))
        found = [word for _, words in covers for word in words]
        for path in self.masked:
            found += ["--ro-bind", "/dev/null", str(path)]
        return found

    def _parents(self, path: PurePosixPath) -> list[str]:
        """Creates them explicitly: bubblewrap itself makes parents that only its own user can enter."""
        made = [parent for parent in reversed(path.parents) if self.is_private(parent) and parent not in self.tops]
        return [word for parent in made for word in ("--perms", "0755", "--dir", str(parent))]


def homes() -> list[Path]:
    """The home directories of this host."""
    found = [Path(home) for home in HOMES]
    with contextlib.suppress(RuntimeError):  # a user in a container may have neither a name nor HOME
        found.append(Path.home())
    with contextlib.suppress(KeyError):
        found.append(Path(pwd.getpwuid(os.getuid()).pw_dir))
    return list(dict.fromkeys(path.resolve() for path in found))


def _may_go(path: PurePosixPath) -> bool:
    """Whether a program can do without this directory."""
    if str(path) in HOMES:
        return True
    return len(path.parts) > 2 and not any(path.is_relative_to(system) for system in _SYSTEM)
