"""Runs the migrations that a database lacks, all in the transaction it is given."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection

from services.errors import StorageError

SCRIPTS = Path(__file__).parent


def upgrade(connection: Connection, found: str, place: str) -> None:
    """From the revision ``found`` to today's. Raises StorageError for one that this release does not know."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["connection"] = connection
    try:
        ScriptDirectory.from_config(config).get_revision(found)
        command.upgrade(config, "head")
    except CommandError:
        raise StorageError(path=place, problem=f"it is of a newer release (format {found})") from None
