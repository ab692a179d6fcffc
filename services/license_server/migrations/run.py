"""Runs the missing migrations of a database, all in the given transaction."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection

from services.errors import StorageError

SCRIPTS = Path(__file__).parent


def upgrade(connection: Connection, found: str, place: str) -> None:
    """Migrates from the revision ``found`` to today's. Raises StorageError for an unknown revision."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["connection"] = connection
    try:
        ScriptDirectory.from_config(config).get_revision(found)
        command.upgrade(config, "head")
    except CommandError:
        raise StorageError(path=place, problem=f"it is of a newer release (format {found})") from None
