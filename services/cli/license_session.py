"""What the commands of `swarm license` share: whom they ask, and how they print."""

import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.options import DEFAULT_DIR
from services.errors import FileExists, SettingsError, StorageError

if TYPE_CHECKING:
    from services.licensing.admin import LicenseAdmin

JsonOut = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class LicenseSession:
    """One server, asked when the first command needs it."""

    def __init__(self, flags: dict[str, Any], directory: Path | None) -> None:
        self._flags = flags
        self._directory = directory

    def get(self, path: str, **query: Any) -> Any:
        return self._admin.get(path, **query)

    def send(self, method: str, path: str, content: Any = None) -> Any:
        return self._admin.send(method, path, content)

    def ask(self, method: str, path: str, body: bytes = b"", content_type: str = "") -> bytes:
        return self._admin.ask(method, path, body, content_type)

    @cached_property
    def _admin(self) -> "LicenseAdmin":
        from services.identity.peers import Expected
        from services.identity.renewed_files import IdentityFiles
        from services.licensing.admin import LicenseAdmin
        from services.licensing.settings import LicenseAdminSettings
        from services.local.access import license_server_of

        settings = LicenseAdminSettings.load("license", self._flags)
        token = settings.token.get_secret_value()
        if self._directory is not None or not settings.server:
            address, identity = license_server_of((self._directory or DEFAULT_DIR).absolute())
            return LicenseAdmin(address, identity.client_context(Expected("license")))
        if token and settings.cert is None:
            if settings.trust is not None:
                from services.identity.peer_context import anonymous_context
                from services.identity.peers import read_trust

                trust = read_trust(None, None, settings.trust)
                return LicenseAdmin(settings.server, anonymous_context(trust, Expected("license")), token)
            return LicenseAdmin(settings.server, _trusting(settings.cacert, settings.capath), token)
        shown = IdentityFiles.of(settings).load()
        return LicenseAdmin(settings.server, shown.client_context(Expected("license")), token)


def session_of(context: typer.Context) -> LicenseSession:
    session: LicenseSession = context.obj
    return session


def show(found: Any, as_json: bool, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """As JSON, or as a table whose columns are as wide as they must be."""
    if as_json:
        print(json.dumps(found))
        return
    table = [list(columns), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[number]) for row in table) for number in range(len(columns))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def read_file(path: Path) -> bytes:
    """Raises SettingsError."""
    try:
        return path.read_bytes()
    except OSError as error:
        problem = f"it cannot be read ({error.strerror})"
        raise SettingsError(name=str(path), problem=problem, command="license") from None


def write_new(path: Path, content: bytes, *, private: bool) -> None:
    """Raises FileExists, StorageError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644)
    except FileExistsError:
        raise FileExists(path=path) from None
    except OSError as error:
        raise StorageError(path=path, problem=error.strerror) from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _trusting(cacert: Path | None, capath: Path | None) -> Any:
    import ssl

    context = ssl.create_default_context(cafile=cacert, capath=capath)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
