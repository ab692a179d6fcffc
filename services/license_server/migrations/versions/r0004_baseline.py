"""Where migrations begin: no earlier schema was ever released."""

revision = "0004"
down_revision = None


def upgrade() -> None:
    """Does nothing: no database is older."""
