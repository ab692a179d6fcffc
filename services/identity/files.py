"""Files of an identity: written whole or not at all; those with a key are readable only by their owner."""

import os
import tempfile
from pathlib import Path

from services.errors import FileExists, StorageError

KEY_MODE = 0o600
CERT_MODE = 0o644


def make_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(path=directory, problem=error.strerror) from None


def write_whole(path: Path, content: bytes, mode: int, *, force: bool) -> None:
    """Writes a file whole or not at all, with ``mode``. ``os.link`` refuses to replace an existing file."""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600 from creation
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            if force:
                temporary.replace(path)
            else:
                os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        raise FileExists(path=path) from None
    except OSError as error:
        raise StorageError(path=path, problem=error.strerror) from None
