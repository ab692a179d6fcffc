"""The identity of a node: certificate, key and CAs, mounted at their own paths, and a user who can read them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from services.errors import HostNotReady
from services.runtime.trust_directory import holds_a_key, reason_not_to_mount
from services.scripts.container import Container
from services.scripts.options import VALUE, Given, Option

IDENTITY_OPTIONS = {
    "cacert": Option(VALUE, "File of the CAs to trust."),
    "capath": Option(VALUE, "Directory of the CAs to trust."),
    "trust": Option(
        VALUE, "File of the organizations to trust, instead of CAs; its directory contains all files that it names."
    ),
    "cert": Option(VALUE, "Certificate of this node."),
    "key": Option(VALUE, "Its private key."),
    "key-passphrase-file": Option(VALUE, "If the key is encrypted: file with its passphrase, on one line."),
    "socket-path": Option(VALUE, "Socket of a SPIFFE Workload API: a path, or VOLUME:PATH for one in a volume."),
}
_VARIABLES = {
    "cacert": "SWARM_ID_CACERT", "capath": "SWARM_ID_CAPATH", "cert": "SWARM_ID_CERT", "key": "SWARM_ID_KEY",
    "key-passphrase-file": "SWARM_ID_KEY_PASSPHRASE_FILE",
}  # fmt: skip
_OF_AN_IDENTITY = (".pem", ".crt", ".cer", ".key", ".csr", ".new", ".crl")
_MOST_FILES = 32
_SPIFFE = "/tmp/spire-agent"  # noqa: S108 - a path inside of containers, which users know


def user_of(given: Given) -> str:
    """The user of the container: as asked, else the owner of the key, else the caller."""
    if users := given.values("user"):
        return users[-1]
    try:
        found = Path(given.get("key")).stat() if given.get("key") else None
    except OSError:  # reported better when it is mounted
        found = None
    return f"{found.st_uid}:{found.st_gid}" if found else f"{os.getuid()}:{os.getgid()}"


def add_identity(container: Container, given: Given) -> None:
    """Mounts the identity's files read-only at the same paths. Raises OptionUnusable, HostNotReady."""
    if socket := given.get("socket-path"):
        if given.get("trust"):
            raise given.unusable("--trust", "with --socket-path the Workload API gives the CAs: give no trust file")
        _add_spiffe(container, given, socket)
        return
    missing = [f"--{name}" for name in ("cert", "key") if not given.get(name)]
    if not any(given.get(name) for name in ("cacert", "capath", "trust")):
        missing.append("--cacert, --capath or --trust")
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise given.unusable(missing[0], f"{' and '.join(missing)} {verb} not given, so this node has no identity")
    if given.get("trust"):
        _add_trust(container, given, Path(given.get("trust")).expanduser().absolute())
    files = {name: Path(given.get(name)).expanduser().absolute() for name in _VARIABLES if given.get(name)}
    own = _own_directory(files, container.user)
    if own is not None:
        container.bind(str(own), str(own), read_only=True)
    for name, path in files.items():
        _check(path, f"--{name}", container.user, given, directory=name == "capath")
        if own is None or own not in (path, path.parent):
            container.bind(str(path), str(path), read_only=True)
        container.env(_VARIABLES[name], str(path))


def _own_directory(files: dict[str, Path], user: str) -> Path | None:
    """The directory of certificate and key, if it is this node's alone. A container never sees the replacement of a
    mounted file, but does see files replaced in a mounted directory.

    None if it contains another node's key, or anything that is not part of an identity.
    """
    key = files["key"]
    if files["cert"].parent != key.parent:
        return None
    try:
        inside = sorted(key.parent.iterdir())
        for path in inside[:_MOST_FILES]:
            known = path in files.values() or path.suffix in _OF_AN_IDENTITY
            if path.is_dir() or not known:
                return None
            if not path.name.startswith(key.name) and holds_a_key(path):
                return None
        return key.parent if len(inside) <= _MOST_FILES and _may_enter(key.parent.stat(), user) else None
    except OSError:  # reported better when it is mounted
        return None


def _add_trust(container: Container, given: Given, path: Path) -> None:
    if given.get("cacert") or given.get("capath"):
        raise given.unusable("--trust", "it takes the place of --cacert and --capath: give it, or them")
    _check(path, "--trust", container.user, given, directory=False)
    if reason := reason_not_to_mount(path.parent):
        raise given.unusable("--trust", reason)
    container.bind(str(path.parent), str(path.parent), read_only=True)
    container.env("SWARM_ID_TRUST", path)


def _check(path: Path, option: str, user: str, given: Given, *, directory: bool) -> None:
    try:
        found = path.stat()
    except OSError as error:
        raise given.unusable(option, f"{path}: {(error.strerror or str(error)).lower()}") from None
    if directory != path.is_dir():
        raise given.unusable(option, f"{path} is {'not a directory' if directory else 'not a file'}")
    if directory and not any(path.iterdir()):
        raise given.unusable(option, f"no CA certificate lies in {path}")
    if not readable_by(found, user):
        problem = f"{path} ({_described(found)}) cannot be read by user {user}, as whom the container runs"
        raise HostNotReady(problem=problem, advice="Change its owner, or give --user UID:GID of its owner.")


def readable_by(found: os.stat_result, user: str) -> bool:
    """Whether a user given as UID[:GID] may read. True for names, which only the engine knows."""
    return _permitted(found, user, stat.S_IROTH)


def _may_enter(found: os.stat_result, user: str) -> bool:
    """Whether a user may enter a directory."""
    return _permitted(found, user, stat.S_IXOTH)


def _permitted(found: os.stat_result, user: str, bit: int) -> bool:
    """``bit``: the permission bit for others."""
    uid, _, gid = user.partition(":")
    if not uid.isdecimal() or uid == "0":
        return True
    if int(uid) == found.st_uid:
        return bool(found.st_mode & bit << 6)
    if gid.isdecimal() and int(gid) == found.st_gid:
        return bool(found.st_mode & bit << 3)
    return bool(found.st_mode & bit)


def _described(found: os.stat_result) -> str:
    return f"owner {found.st_uid}:{found.st_gid}, mode {stat.S_IMODE(found.st_mode):04o}"


def _add_spiffe(container: Container, given: Given, socket: str) -> None:
    volume, colon, inside = socket.partition(":")
    if colon and "/" not in volume:
        container.options += ["--volume", f"{volume}:{_SPIFFE}:ro"]
        container.env("SWARM_SPIFFE_WORKLOAD_API_SOCKET_PATH", f"{_SPIFFE}/{inside.lstrip('/')}")
        return
    path = Path(socket).expanduser().absolute()
    if not path.exists():
        raise given.unusable("--socket-path", f"{path} is not there; start the SPIRE agent first")
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise given.unusable("--socket-path", f"{path} is not a socket")
    container.bind(str(path.parent), _SPIFFE, read_only=True)
    container.env("SWARM_SPIFFE_WORKLOAD_API_SOCKET_PATH", f"{_SPIFFE}/{path.name}")
