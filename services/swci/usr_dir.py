"""The only files that commands may use: the usr-dir, called /platform/swarm/usr wherever SWCI runs."""

import stat
from pathlib import Path, PurePosixPath

from services.errors import FileUnusable, OutsideUsrDir

ROOT = PurePosixPath("/platform/swarm/usr")
FILE_LIMIT_BYTES = 1 << 20
LISTED_LIMIT = 10_000
SHOWN_CHARACTERS = 200  # of a path quoted in an error


class UsrDir:
    """One directory of the host under its documented path. ``at``: the current directory, as commands see it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.resolve()
        self.at = ROOT

    def copy(self) -> "UsrDir":
        """The same files with a separate current directory, at first the top."""
        return UsrDir(self._directory)

    def resolve(self, path: str) -> Path:
        """The host's path, with links followed. Raises OutsideUsrDir, FileUnusable."""
        given = PurePosixPath(path)
        if given.is_relative_to(ROOT):
            real = self._directory / given.relative_to(ROOT)
        elif given.is_relative_to(self._directory):
            real = Path(path)
        elif given.is_absolute():
            raise OutsideUsrDir(path=path[:SHOWN_CHARACTERS], root=ROOT)
        else:
            real = self._directory / self.at.relative_to(ROOT) / given
        try:
            found = real.resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise _unusable(path, error) from None
        if not found.is_relative_to(self._directory):
            raise OutsideUsrDir(path=path[:SHOWN_CHARACTERS], root=ROOT)
        return found

    def shown(self, real: Path) -> PurePosixPath:
        """The path of a file as commands see it."""
        return ROOT / real.relative_to(self._directory)

    def enter(self, path: str) -> PurePosixPath:
        """Makes a directory the current one. Raises OutsideUsrDir, FileUnusable."""
        real = self.resolve(path)
        try:
            if not stat.S_ISDIR(real.stat().st_mode):
                raise FileUnusable(path=path, problem="it is not a directory")
        except OSError as error:
            raise _unusable(path, error) from None
        self.at = self.shown(real)
        return self.at

    def read_text(self, path: str) -> str:
        """A text file. Raises as ``read`` does, and for content that is not UTF-8."""
        content = self.read(path)
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            raise FileUnusable(path=path, problem=f"it is not UTF-8 text (line {line})") from None

    def read(self, path: str, limit: int = FILE_LIMIT_BYTES) -> bytes:
        """A whole file. Raises OutsideUsrDir, or FileUnusable if it is missing, not a file, or too large."""
        real = self.resolve(path)
        try:
            mode = real.stat().st_mode
            if not stat.S_ISREG(mode):
                problem = "it is a directory" if stat.S_ISDIR(mode) else "it is not a regular file"
                raise FileUnusable(path=path, problem=problem)
            with real.open("rb") as file:
                content = file.read(limit + 1)
        except OSError as error:
            raise _unusable(path, error) from None
        if len(content) > limit:
            raise FileUnusable(path=path, problem=f"it is larger than {limit} bytes")
        return content

    def entries(self, path: str) -> list[Path]:
        """The entries of a directory by name, or the file itself. Raises OutsideUsrDir, FileUnusable."""
        real = self.resolve(path)
        try:
            if not real.is_dir():
                real.stat()
                return [real]
            return sorted(real.iterdir())[:LISTED_LIMIT]
        except OSError as error:
            raise _unusable(path, error) from None


def _unusable(path: str, error: Exception) -> FileUnusable:
    if isinstance(error, FileNotFoundError):
        problem = "it is not there"
    elif isinstance(error, PermissionError):
        problem = "this user may not read it"
    elif isinstance(error, OSError) and error.strerror:
        problem = error.strerror.lower()
    else:
        problem = "it is not a path, or leads in a circle"
    return FileUnusable(path=path[:SHOWN_CHARACTERS], problem=problem)
