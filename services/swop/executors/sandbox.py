"""The bubblewrap command line that gives a local process its documented paths, and nothing else to write.

No I/O, except to look which files and directories exist.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from services.swop.executors.hiding import PRIVATE, FileSystemView


@dataclass(frozen=True)
class BindMount:
    """``source``: a path of the host that exists."""

    source: Path
    target: PurePosixPath
    read_only: bool = False


def arguments(
    binds: Sequence[BindMount],
    working_dir: str,
    devices: Iterable[Path] = (),
    hostname: str | None = None,
    view: FileSystemView | None = None,
) -> list[str]:
    """The arguments between ``bwrap`` and the program: the host's files to read, without what ``view`` hides, the
    binds, and a private /tmp.
    """
    view = view or FileSystemView.of()
    found = ["--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    if hostname:
        found += ["--hostname", hostname]
    wanted = {
        path for path in (*(bind.target for bind in binds), PurePosixPath(working_dir)) if not view.is_private(path)
    }
    found += _tree(PurePosixPath("/"), wanted)
    found += ["--proc", "/proc", "--dev", "/dev", "--dir", "/run"]
    for open_to_all in ("/tmp", "/dev/shm"):  # noqa: S108
        found += ["--perms", "1777", "--tmpfs", open_to_all]
    if Path("/sys").is_dir():
        found += ["--ro-bind", "/sys", "/sys"]
    for device in devices:
        found += ["--dev-bind-try", str(device), str(device)]
    found += view.arguments()
    for parent in _parents_to_make([bind.target for bind in binds], view):
        found += ["--perms", "0755", "--dir", str(parent)]  # bubblewrap itself makes them for its own user only
    for bind in sorted(binds, key=lambda bind: len(bind.target.parts)):
        found += ["--ro-bind" if bind.read_only else "--bind", str(bind.source), str(bind.target)]
    if not any(PurePosixPath(working_dir) == bind.target for bind in binds) and (
        view.is_private(PurePosixPath(working_dir)) or not Path(working_dir).is_dir()
    ):
        found += ["--dir", working_dir]
    return [*found, "--chdir", working_dir]


def unconfined(
    argv: Sequence[str], environment: Mapping[str, str], binds: Sequence[BindMount], working_dir: str, directory: Path
) -> dict[str, Any]:
    """Arguments, variables and working directory, with each mount's path changed to its real place."""
    places = sorted(
        ((str(bind.target).rstrip("/"), str(bind.source)) for bind in binds), key=lambda pair: -len(pair[0])
    )

    def real(text: str) -> str:
        for target, source in places:
            if text == target or text.startswith(f"{target}/"):
                return source + text[len(target) :]
        return text

    cwd = Path(real(working_dir))
    if not cwd.is_dir():
        cwd = directory / "work"
        cwd.mkdir(exist_ok=True, mode=0o777)
    variables = {name: real(value) for name, value in environment.items()}
    return {"argv": [real(word) for word in argv], "environment": variables, "cwd": str(cwd)}


def _tree(directory: PurePosixPath, wanted: Iterable[PurePosixPath]) -> list[str]:
    """Read-only binds of all that is in a directory. An entry below which a missing target lies is not bound as a whole
    but rebuilt from its own entries, so that the target can be created beside them.
    """
    found: list[str] = []
    for entry in sorted(Path(directory).iterdir()):
        path = PurePosixPath(entry)
        if str(path) in PRIVATE:
            continue
        if entry.is_symlink():
            found += ["--symlink", str(entry.readlink()), str(path)]
            continue
        below = [target for target in wanted if path in target.parents and not Path(target).exists()]
        if below and entry.is_dir():
            found += ["--dir", str(path), *_tree(path, below)]
        else:
            found += ["--ro-bind-try", str(path), str(path)]
    return found


def _parents_to_make(targets: Iterable[PurePosixPath], view: FileSystemView) -> list[PurePosixPath]:
    """The parents of targets that must be created, outermost first."""
    above = {parent for target in targets for parent in target.parents}
    missing = [path for path in above if path not in view.tops and (view.is_private(path) or not Path(path).exists())]
    return sorted(missing, key=lambda path: (len(path.parts), str(path)))
