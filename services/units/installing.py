"""Reads the settings of a node, checks them as the node would, and writes its unit."""

import os
import pwd
import re
import shutil
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.errors import FileExists, FileUnreadable, SettingsError, StorageError
from services.identity.files import KEY_MODE, make_directory, write_whole
from services.identity.renewed_files import IdentityFiles
from services.identity.trust_file import files_of
from services.runtime.settings import IdentitySettings
from services.units.unit import MARK, Unit, as_text

COMMAND = "install-service"
UNITS = Path("etc/systemd/system")
SETTINGS = Path("etc/swarm-learning")
UNIT_MODE = 0o644
USUAL_PATH = ("/usr/local/bin", "/usr/bin", "/bin")
MAX_SETTINGS_BYTES = 64 * 1024

_LINE = re.compile(r"(?:export\s+)?([A-Z][A-Z0-9_]*)=(.*)")
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9/._+@-]*")
_PLAIN_VALUE = re.compile(r"[A-Za-z0-9/._+@:,=-]*")
_IDENTITY = (
    "SWARM_ID_CERT", "SWARM_ID_KEY", "SWARM_ID_KEY_PASSPHRASE_FILE", "SWARM_ID_CACERT", "SWARM_ID_CAPATH",
    "SWARM_ID_TRUST",
)  # fmt: skip


@dataclass(frozen=True)
class UnitKind:
    """A kind of node that may be a service. ``role``: in its certificate. ``data_variable``: names its
    data directory.
    """

    command: str
    role: str
    title: str
    settings: type[IdentitySettings]
    data_variable: str
    starts_programs: bool = False


@dataclass(frozen=True)
class Installed:
    """What was written, below the given root."""

    unit: Path
    settings: Path
    service: str
    data: str


def install(kind: UnitKind, settings_file: Path, *, user: str, docker: bool, root: Path) -> Installed:
    """Paths in the settings are relative to the current directory.

    Raises SettingsError, IdentityError and its subclasses, FileUnreadable, StorageError; FileExists for a unit that is
    not ours.
    """
    given = read_settings(settings_file)
    if given.get("SWARM_ID_CAPATH"):
        raise _refused("SWARM_ID_CAPATH", "a service takes the CAs from one file; give SWARM_ID_CACERT instead")
    settings = kind.settings.load(COMMAND, given)
    identity = IdentityFiles.of(settings).load(kind.role)
    if kind.starts_programs and not user:
        raise _refused("--user", "a SWOP starts programs: give the user whose they are")
    _check_user(user)
    if settings.trust is not None and not user:
        _check_open(settings.trust)
    files = [path for path in (identity.cert, identity.key, settings.key_passphrase_file, settings.cacert) if path]
    unit = Unit(
        name=identity.name,
        title=f"{kind.title} {identity.name}",
        command=(str(_program(user)), kind.command),
        cert=_absolute(identity.cert),
        key=_absolute(identity.key),
        passphrase=None if settings.key_passphrase_file is None else _absolute(settings.key_passphrase_file),
        cacert=None if settings.cacert is None else _absolute(settings.cacert),
        trust=None if settings.trust is None else _absolute(settings.trust),
        data_variable=kind.data_variable,
        settings=Path("/", SETTINGS, f"{identity.name}.env"),
        path=_path(),
        user=user,
        group="docker" if docker else "",
        starts_programs=kind.starts_programs,
        reads_files=all(_reads(user, _absolute(path)) for path in files),
    )
    return _write(unit, _own_settings(kind, given, settings), root)


def read_settings(path: Path) -> dict[str, str]:
    """NAME=VALUE lines, as for Docker and systemd. Raises FileUnreadable, SettingsError with the line."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_SETTINGS_BYTES).decode()
    except OSError as error:
        raise FileUnreadable(path=path, problem=error.strerror or str(error)) from None
    except UnicodeDecodeError:
        raise FileUnreadable(path=path, problem="it is not UTF-8") from None
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _LINE.fullmatch(stripped)
        if match is None or not stripped.isprintable():
            raise _refused(f"{path}, line {number}", "NAME=VALUE is needed")
        value = match[2].strip()
        found[match[1]] = value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value
    return found


def _own_settings(kind: UnitKind, given: Mapping[str, str], settings: IdentitySettings) -> str:
    """The settings without those in the unit itself, and with absolute paths."""
    by_variable = {
        str(field.validation_alias): getattr(settings, name) for name, field in type(settings).model_fields.items()
    }
    lines = [f"# Settings of {kind.title}, read by systemd as root. Restart the service after a change."]
    for name, value in given.items():
        if name in _IDENTITY or name == kind.data_variable:
            continue
        held: Any = by_variable.get(name)
        lines.append(f"{name}={_quoted(str(held.absolute()) if isinstance(held, Path) else value)}")
    return "\n".join([*lines, ""])


def _write(unit: Unit, settings: str, root: Path) -> Installed:
    unit_file, settings_file = root / UNITS / unit.service, root / unit.settings.relative_to("/")
    mark = MARK.format(service=unit.service)
    try:
        if unit_file.exists() and not unit_file.read_text(errors="replace").startswith(mark):
            raise FileExists(path=unit_file)
    except OSError as error:
        raise StorageError(path=unit_file, problem=error.strerror or str(error)) from None
    for file, text, mode in ((settings_file, settings, KEY_MODE), (unit_file, as_text(unit), UNIT_MODE)):
        make_directory(file.parent)
        write_whole(file, text.encode(), mode, force=True)
    return Installed(unit_file, settings_file, unit.service, f"/var/lib/{unit.state}")


def _program(user: str) -> Path:
    """The `swarm` of this Python, which the service must be able to run."""
    program = Path(sys.executable).parent / "swarm"
    if not program.exists():
        raise _refused("swarm", f"{program} is not there: install the package swarm-learning into this Python")
    if not user:
        closed = next((it for it in program.parents if not it.stat().st_mode & 0o001), None)
        if closed is not None:
            problem = f"others may not enter {closed}, so the service cannot run {program}; install it below /opt"
            raise _refused("swarm", f"{problem}, or give --user")
    return _absolute(program)


def _check_open(trust: Path) -> None:
    """Checks that the service can read the trust file, which the node reads itself as revocation lists change."""
    for file in files_of(trust):
        path = Path(os.path.abspath(file))  # noqa: PTH100  # the path that the node uses
        if not path.stat().st_mode & 0o004:
            closed: Path | None = path
        else:
            closed = next((it for it in path.parents if not it.stat().st_mode & 0o001), None)
        if closed is not None:
            problem = f"the user that systemd makes may not read {path}, as {closed} is closed to others"
            raise _refused("SWARM_ID_TRUST", f"{problem}; nothing in it is secret: open it, or give --user")


def _reads(user: str, path: Path) -> bool:
    """Whether this user can certainly read a file: as its owner or as anybody. "": a user that systemd makes."""
    uid = pwd.getpwnam(user).pw_uid if user else -1

    def permits(at: Path, bit: int) -> bool:
        found = at.stat()
        return bool(found.st_mode & (bit << 6 if found.st_uid == uid else bit))

    return permits(path, stat.S_IROTH) and all(permits(one, stat.S_IXOTH) for one in path.parents)


def _path() -> str:
    """The PATH of the service, including the place of geth, if found."""
    geth = shutil.which("geth")
    found = [str(Path(sys.executable).parent), *([str(Path(geth).parent)] if geth else []), *USUAL_PATH]
    return ":".join(str(_absolute(Path(directory))) for directory in dict.fromkeys(found))


def _check_user(user: str) -> None:
    if not user:
        return
    try:
        pwd.getpwnam(user)
    except (KeyError, ValueError):
        raise _refused("--user", f"there is no user '{user}' on this host") from None


def _absolute(path: Path) -> Path:
    """Raises SettingsError for a path that would mean something else in a unit."""
    found = Path(os.path.abspath(path))  # noqa: PTH100  # keeps links, which an update may change
    if not _PLAIN_PATH.fullmatch(str(found)):
        raise _refused(str(found), "a unit takes paths of letters, digits and /._+@- only; move or rename it")
    return found


def _quoted(value: str) -> str:
    if _PLAIN_VALUE.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`")
    return f'"{escaped}"'


def _refused(name: str, problem: str) -> SettingsError:
    return SettingsError(name=name, problem=problem, command=COMMAND)
