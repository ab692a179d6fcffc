"""Gives Alembic the connection: the code that runs the migrations has already opened one, and commits."""

from alembic import context


def run() -> None:
    config = getattr(context, "config", None)
    if config is None:  # imported outside a migration
        return
    context.configure(connection=config.attributes["connection"], transactional_ddl=False)
    context.run_migrations()


run()
