"""Where migrations begin: the schema that new databases are made with. Those before it were never released."""

revision = "0004"
down_revision = None


def upgrade() -> None:
    """Nothing: no database is older."""
