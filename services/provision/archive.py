"""A kit in one file, plain or encrypted with AES-256 and its own password."""

import secrets
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from services.errors import SettingsError, StorageError
from services.identity.files import KEY_MODE, write_whole

PASSWORD_BYTES = 18  # 24 characters


def pack(directory: Path, files: Iterable[str], archive: Path, *, encrypted: bool, anew: bool) -> bool:
    """Packs files, unless ``anew`` is false and an archive encrypted as asked exists. Returns whether it did. The
    password is in a file beside the archive and stays the same.

    ``files``: paths within ``directory``; other files there are not packed. Raises SettingsError if the library for
    encryption is missing, StorageError.
    """
    password = archive.with_suffix(".password")
    if archive.exists() and not anew and password.exists() is encrypted:
        return False
    if encrypted and not password.exists():
        write_whole(password, secrets.token_urlsafe(PASSWORD_BYTES).encode() + b"\n", KEY_MODE, force=False)
    partial = archive.with_suffix(".part")
    try:
        if not encrypted:
            password.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)
        partial.touch(KEY_MODE)
        with _opened(partial, password.read_bytes().strip() if encrypted else None) as packed:
            for path in sorted(files):
                packed.write(directory / path, f"{directory.name}/{path}")
        partial.replace(archive)
    except OSError as error:
        raise StorageError(path=archive, problem=error.strerror or str(error)) from None
    return True


def _opened(archive: Path, password: bytes | None) -> Any:
    if password is None:
        return zipfile.ZipFile(archive, "w", compression=zipfile.ZIP_DEFLATED)
    try:
        import pyzipper  # noqa: PLC0415  # an extra of the package, not needed by nodes
    except ImportError:
        problem = "pyzipper is not installed here (pip install 'swarm-learning[provision]')"
        raise SettingsError(name="--encrypt", problem=problem, command="provision") from None
    packed = pyzipper.AESZipFile(archive, "w", compression=pyzipper.ZIP_DEFLATED, encryption=pyzipper.WZ_AES)
    packed.setpassword(password)
    return packed
